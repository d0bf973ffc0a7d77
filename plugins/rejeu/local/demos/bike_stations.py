"""The demo of `bike_stations`: a day of kept answers, then the local API itself, asked sixty times as often."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Final

import msgspec

from rejeu.jobs.build import replay_of
from rejeu.local.demos.demo_data import DemoData
from rejeu.local.servers.open_data import records_at
from rejeu.replay.source.raw import RawFiles
from rejeu.spec.columns import Column
from rejeu.timeline import MICROSECOND, Position, format_instant, to_us

BATCH_EVERY: Final = timedelta(minutes=30)


class BikeStations(DemoData):
    """Every station of every answer that was kept: nobody can ask the API what it said then."""

    becomes = "An answer of the API holds all stations, and each becomes a row."
    truth = """
        SELECT
          observed_at,
          record ->> '$.recordid' AS recordid,
          record ->> '$.fields.nom' AS nom,
          CAST(record ->> '$.fields.nbvelosdispo' AS BIGINT) AS nbvelosdispo,
          CAST(record ->> '$.fields.nbplacesdispo' AS BIGINT) AS nbplacesdispo,
          CAST(record ->> '$.fields.localisation[0]' AS DOUBLE) AS latitude
        FROM (
          SELECT json ->> '$.observed_at' AS observed_at, unnest(from_json(json -> '$.records', '["JSON"]')) AS record
          FROM lines
        )
    """
    key = (Column("observed_at", "TIMESTAMP"), Column("recordid", "STRING"))
    values = (
        Column("nom", "STRING"),
        Column("nbvelosdispo", "INT64"),
        Column("nbplacesdispo", "INT64"),
        Column("latitude", "FLOAT64"),
    )
    endless = True

    def write_history(self) -> None:
        at = self.midnight - timedelta(days=1)
        while at < self.midnight:
            answer = {"observed_at": format_instant(at), "records": records_at(at)}
            self._raw.keep(to_us(at), msgspec.json.encode(answer))
            at += BATCH_EVERY

    def history(self) -> Iterable[bytes]:
        end = to_us(self.midnight)
        return self._kept(end - timedelta(days=1) // MICROSECOND, end)

    def streamed(self, end: Position | None) -> Iterable[bytes]:
        assert end is not None, "the API is asked until somebody stops"
        return self._kept(to_us(self.midnight), end.event_us + 1)

    def _kept(self, from_us: int, until_us: int) -> Iterator[bytes]:
        for at_us in self._raw.instants(from_us, until_us):
            yield self._raw.read(at_us) or b""

    @property
    def _raw(self) -> RawFiles:
        raw = str(replay_of(self.spec).source.raw)
        return RawFiles(self.target.expand(raw, partition="{partition}"), self.target.project)
