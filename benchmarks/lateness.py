"""How late messages are, by the replay's own report and by the times of their arrival at a server."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from rich.table import Table

from benchmarks.feed import ROWS_A_SECOND, STREAM_NAME, replay_of, write_rows
from benchmarks.measure import spread
from benchmarks.processes import report_of
from benchmarks.record import Arrivals
from benchmarks.section import Options, Result, figures_table, steps
from benchmarks.servers import NULL, running
from rejeu.errors import RejeuError
from rejeu.state import open_store
from rejeu.state.lease import read_state
from rejeu.timeline import Timeline

RATES: Final = (10, 1_000, 10_000, 50_000)
SECONDS: Final = 8
PATIENCE_SECONDS: Final = 60.0
LEGEND: Final = (
    "Milliseconds after the due time until the replay handed a message to the transport, by its own report, and until "
    "the null server, another process, had it. Early messages arrived before they were due: there must be none."
)


@dataclass(frozen=True)
class Run:
    """One replay at so many messages a second; lateness in milliseconds: p50, p99 and max."""

    rate: int
    messages: int
    early: int
    reported: dict[str, float]
    arrived: dict[str, float]


def lateness(options: Options) -> Result:
    """A replay of eight seconds at each rate, every round."""
    with tempfile.TemporaryDirectory(prefix="rejeu-bench-") as name:
        folder = Path(name)
        record = folder / "record"
        files = {rate: write_rows(folder / f"{rate}.parquet", rate * SECONDS) for rate in RATES}
        with running(NULL, f"--record={record}"):
            schedule = [rate for _ in range(options.rounds) for rate in RATES]
            runs = [_run(folder, files[rate], record, rate) for rate in steps("Lateness", schedule)]
    legend = f"Lateness, {SECONDS} s a run, medians of {options.rounds} rounds. {LEGEND}"
    return Result(table(runs), legend, [asdict(each) for each in runs])


def table(runs: Sequence[Run]) -> Table:
    """The runs by rate, for a person to read."""
    made = figures_table(0, "messages/s", *("reported p50", "p99", "max"), *("arrived p50", "p99", "max"), "early")
    for rate in dict.fromkeys(each.rate for each in runs):
        own = [each for each in runs if each.rate == rate]
        cells = [
            f"{median(each[name] for each in found):.2f}"
            for found in ([run.reported for run in own], [run.arrived for run in own])
            for name in ("p50", "p99", "max")
        ]
        made.add_row(f"{rate:,}", *cells, f"{sum(each.early for each in own):,}")
    return made


def behind_us(arrivals: Arrivals, timeline: Timeline) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How long after its due time each message arrived; negative for an early one."""
    assert timeline.speed is not None
    return arrivals.at_us - timeline.wall_us - (arrivals.event_us - timeline.event_us) / timeline.speed


def _run(folder: Path, file: Path, record: Path, rate: int) -> Run:
    state = f"sqlite:{folder / 'state.db'}"
    record.write_bytes(b"")
    report = report_of(replay_of(file, speed=rate / ROWS_A_SECOND, state=state), folder, SECONDS + PATIENCE_SECONDS)
    found = read_state(open_store(state), STREAM_NAME)
    arrivals = Arrivals.read(record)
    if found is None or found.timeline is None or len(arrivals.at_us) != rate * SECONDS:
        raise RejeuError(f"{len(arrivals.at_us):,} of {rate * SECONDS:,} messages arrived: all must, exactly once")
    late = behind_us(arrivals, found.timeline)
    return Run(rate, len(late), int((late < 0).sum()), report["lateness_ms"], spread(late, unit=1_000))
