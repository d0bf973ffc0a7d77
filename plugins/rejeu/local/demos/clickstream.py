"""The demo of `clickstream`: a day of clicks as files, and the half hour after it as a Parquet file."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from rejeu.jobs.build import replay_of
from rejeu.local.demos.demo_data import DemoData
from rejeu.replay.format.encode import encode
from rejeu.replay.source.generators.clickstream import Clickstream
from rejeu.spec.columns import Column
from rejeu.timeline import Position

STREAMED_MINUTES: Final = 30.0
BATCH_EVERY, STREAMED_EVERY = 5.0, 1.0
"""Mean seconds between two clicks."""


class Clicks(DemoData):
    """How often each user clicked in each minute."""

    becomes = "Clicks become one count for each user and minute; an open minute is written again with each early pane."
    truth = """
        SELECT
          strftime(date_trunc('minute', make_timestamp(CAST(json ->> '$.event_timestamp' AS BIGINT))),
            '%Y-%m-%dT%H:%M:%SZ') AS window_start,
          json ->> '$.user_pseudo_id' AS user_pseudo_id,
          count(*) AS event_count
        FROM lines
        GROUP BY 1, 2
    """
    key = (Column("window_start", "TIMESTAMP"), Column("user_pseudo_id", "STRING"))
    values = (Column("event_count", "INT64"),)

    def write_source(self) -> None:
        pattern = self.target.expand(str(replay_of(self.spec).source.files))
        name = pattern.removeprefix(f"gs://{self.target.bucket}/").replace("*", self.midnight.date().isoformat())
        file = io.BytesIO()
        pq.write_table(pa.concat_tables(self._clicks(self.midnight, STREAMED_MINUTES, STREAMED_EVERY)), file)
        self.upload(name, file.getvalue())

    def history(self) -> Iterable[bytes]:
        return _lines(self._clicks(self.midnight - timedelta(days=1), 24 * 60, BATCH_EVERY))

    def streamed(self, end: Position | None) -> Iterable[bytes]:
        return _lines(self._clicks(self.midnight, STREAMED_MINUTES, STREAMED_EVERY))

    def _clicks(self, start: datetime, minutes: float, every: float) -> Iterable[pa.Table]:
        return Clickstream(start=start, minutes=minutes, every=every).tables()


def _lines(tables: Iterable[pa.Table]) -> Iterable[bytes]:
    for table in tables:
        yield from encode(table).to_pylist()
