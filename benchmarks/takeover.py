"""How long a topic is silent when the holder is killed and a standby takes over."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.feed import STREAM_NAME, replay_of, write_rows
from benchmarks.measure import spread
from benchmarks.processes import Program, wait_until
from benchmarks.record import Arrivals
from benchmarks.section import Options, Result, figures_table, steps
from benchmarks.servers import NULL, running
from rejeu.jobs.request import ReplayRequest
from rejeu.ports import StateStore
from rejeu.state import open_store
from rejeu.state.lease import read_state

ROWS: Final = 1_000_000
"""At 1,000 a second enough for any number of rounds."""
KILLS_A_ROUND: Final = 5
SETTLED_SECONDS: Final = 1.0
"""After so long a standby that says it is ready has its rows in memory."""
LEGEND: Final = "Milliseconds from SIGKILL of the holder, at 1,000 messages/s, to the standby's first message."


def takeover(options: Options) -> Result:
    """Kill the stream's holder again and again: the one that took over is killed next."""
    kills = options.rounds * KILLS_A_ROUND
    with tempfile.TemporaryDirectory(prefix="rejeu-bench-") as name:
        folder = Path(name)
        record = folder / "record"
        state = f"sqlite:{folder / 'state.db'}"
        request = replay_of(write_rows(folder / "rows.parquet", ROWS), speed=1.0, state=state)
        with running(NULL, f"--record={record}"):
            killed_us = _kill(request, open_store(state), kills, folder)
        arrivals = Arrivals.read(record)
    first_us = [arrivals.at_us[arrivals.epochs == epoch].min() for epoch in range(2, kills + 2)]
    silences = (np.array(first_us) - np.array(killed_us)) / 1_000
    found = spread(silences, tail=0.95)
    made = figures_table(0, "kills", *found)
    made.add_row(str(kills), *(f"{each:,.0f}" for each in found.values()))
    return Result(made, f"Takeover. {LEGEND}", found | {"milliseconds": silences.tolist()})


def _kill(request: ReplayRequest, store: StateStore, kills: int, folder: Path) -> list[int]:
    """When each holder was killed, in microseconds since 1970; after the n-th kill comes epoch n + 1."""
    programs = [Program(request, folder)]
    killed_us = []
    try:
        _wait_for_epoch(store, 1)
        for epoch in steps("Takeover", range(1, kills + 1)):
            programs.append(Program(request.model_copy(update={"standby": True}), folder))
            standby = programs[-1]
            wait_until(lambda: "standing by" in standby.said, "a standby did not stand by")  # noqa: B023
            time.sleep(SETTLED_SECONDS + random.random())
            killed_us.append(time.time_ns() // 1_000)
            programs[-2].kill()
            _wait_for_epoch(store, epoch + 1)
        programs[-1].stop()
    finally:
        for program in programs:
            program.kill()
    return killed_us


def _wait_for_epoch(store: StateStore, epoch: int) -> None:
    def publishes() -> bool:
        state = read_state(store, STREAM_NAME)
        return state is not None and state.epoch == epoch and state.published > 0

    wait_until(publishes, f"nothing was published under epoch {epoch}")
