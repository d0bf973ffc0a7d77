"""The demo of `crypto_rates`: a day of Band oracle requests as files, and the half hour after it as a table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from rejeu.jobs.build import replay_of
from rejeu.local.demos.demo_data import DemoData
from rejeu.replay.source.generators.oracle_requests import COLUMNS, OracleRequests
from rejeu.spec.columns import Column
from rejeu.timeline import Position

STREAMED_MINUTES: Final = 30.0
BATCH_EVERY, STREAMED_EVERY = 10.0, 1.5
"""Mean seconds between two requests: the chain's own pace was about one a block of 3 s."""


class CryptoRates(DemoData):
    """Every rate of script 3, and only of requests with as many rates as symbols."""

    becomes = "A request holds several symbols, and each becomes a row; a request of another script becomes none."
    truth = """
        SELECT timestamp, request, unnest(symbols) AS symbol, unnest(rates)::DOUBLE / multiplier AS rate
        FROM (
          SELECT
            timestamp,
            request,
            from_json(calldata, '{"symbols":["VARCHAR"]}').symbols AS symbols,
            from_json(calldata, '{"multiplier":"BIGINT"}').multiplier AS multiplier,
            from_json(result, '{"rates":["BIGINT"]}').rates AS rates
          FROM (
            SELECT
              json ->> '$.block_timestamp_truncated' AS timestamp,
              json ->> '$.oracle_request_id' AS request,
              json ->> '$.request.oracle_script_id' AS script,
              json ->> '$.decoded_result.calldata' AS calldata,
              json ->> '$.decoded_result.result' AS result
            FROM lines
          )
          WHERE script = '3'
        )
        WHERE len(symbols) = len(rates)
    """
    key = (Column("timestamp", "TIMESTAMP"), Column("request", "STRING"), Column("symbol", "STRING"))
    values = (Column("rate", "FLOAT64"),)

    def write_source(self) -> None:
        self.load(self.target.table(str(replay_of(self.spec).source.table)), self.streamed(None), COLUMNS)

    def history(self) -> Iterable[bytes]:
        return self._requests(self.midnight - timedelta(days=1), 24 * 60, BATCH_EVERY, seed=1, first_id=1_000_000)

    def streamed(self, end: Position | None) -> Iterable[bytes]:
        return self._requests(self.midnight, STREAMED_MINUTES, STREAMED_EVERY, seed=2, first_id=2_000_000)

    def _requests(self, start: datetime, minutes: float, every: float, *, seed: int, first_id: int) -> Iterable[bytes]:
        made = OracleRequests(start=start, minutes=minutes, every=every, seed=seed, first_id=first_id)
        return (line.rstrip() for line in made.lines())
