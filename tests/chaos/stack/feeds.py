"""The streams of the chaos: their specs, their rows, and when each row is due; nothing here runs them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rejeu.timeline import Timeline, parse_instant, to_us

START_US: Final = to_us(parse_instant("2024-02-29T23:30:00Z"))
"""So that the rows cross midnight, and with it a border of their tables' partitions."""
HOURS: Final = 3
STEP_SECONDS: Final = (0.15, 0.4)
BURST_SECONDS: Final = (8.0, 25.0)
GAP_SECONDS: Final = (5.0, 90.0)
SPEC: Final = """\
stream: {name}
description: {description}
event_time: at
key: [number]
live:
  topic: chaos-{name}
  table: chaos.{name}
replay:
  source: {source}
  standby: {standby}
watchdog:
  probe: [{probes}]
  silence: {silence:g}s
reconcile:
  schedule: null
  settle: 5s
"""


@dataclass(frozen=True)
class Feed:
    """A stream: `silence` is its watchdog's limit in seconds; with `gaps` no row is due for up to 90 s at a time.

    The rows are in `table`, or else in the file that `write` makes.
    """

    name: str
    description: str
    silence: float
    standby: bool = False
    gaps: bool = False
    table: str = ""
    probes: tuple[str, ...] = ("heartbeat",)

    def file(self, sources: Path) -> Path:
        """Where its rows are written."""
        return sources / f"{self.name}.parquet"

    def write(self, seed: int, streams: Path, sources: Path) -> NDArray[np.int64]:
        """Write spec and rows; the rows' event times in microseconds since the epoch, by their numbers."""
        event_us = self.event_us(seed)
        file = self.file(sources)
        rows = {"at": pa.array(event_us).cast(pa.timestamp("us", "UTC")), "number": np.arange(len(event_us))}
        pq.write_table(pa.table(rows), file)
        spec = SPEC.format(
            name=self.name,
            description=self.description,
            source=f"{{table: {self.table}}}" if self.table else f"{{files: {file}}}",
            probes=", ".join(self.probes),
            standby=str(self.standby).lower(),
            silence=self.silence,
        )
        (streams / f"{self.name}.yaml").write_text(spec, encoding="utf-8")
        return event_us

    def event_us(self, seed: int) -> NDArray[np.int64]:
        """When each row happened; they last for HOURS."""
        drawn = random.Random(f"{seed}/{self.name}")
        seconds, at, quiet_at = [], 0.0, drawn.uniform(*BURST_SECONDS)
        while at < HOURS * 3_600:
            seconds.append(at)
            at += drawn.uniform(*STEP_SECONDS)
            if self.gaps and at > quiet_at:
                at += drawn.uniform(*GAP_SECONDS)
                quiet_at = at + drawn.uniform(*BURST_SECONDS)
        return START_US + np.round(np.array(seconds) * 1e6).astype(np.int64)


FEEDS: Final = (
    Feed("single", "Rows all the time, and nobody stands by for the replay.", silence=1),
    Feed("pair", "Rows all the time, and a second replay that stands by.", silence=2, standby=True),
    Feed("gaps", "Bursts of rows, and up to 90 s between them.", silence=1, gaps=True),
)
EXTRAS: Final = (
    Feed("table", "Rows of a table, which vanishes.", silence=1, table="chaos_sources.rows"),
    Feed("topic", "Rows whose topic is deleted.", silence=2, probes=("heartbeat", "tap")),
)
"""They go live for the mishaps only, after all rounds."""


def due_seconds(event_us: NDArray[np.int64], timeline: Timeline) -> NDArray[np.float64]:
    """When each row is due, in seconds since the epoch."""
    assert timeline.speed is not None, "the rows of the chaos are paced"
    seconds: NDArray[np.float64] = (timeline.wall_us + (event_us - timeline.event_us) / timeline.speed) / 1e6
    return seconds
