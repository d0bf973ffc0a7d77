"""A wall clock without small steps, and how late rows were by it; `rejeu.timeline` says when a row is due."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from rejeu.clocks import elapsed_ns
from rejeu.timeline import Timeline

LEAST_STEP_US = 200_000
"""Smaller differences are none: clocks are also set by going a little faster or slower."""
LONGEST_LOOK_US = 10_000
BUCKETS_PER_DOUBLING = 32
"""Resolution of the lateness histogram: about 2 %, for any range, in a fixed number of cells."""
CELLS = BUCKETS_PER_DOUBLING * 50


class Clock:
    """Microseconds since the epoch, by elapsed time from an anchor: a step of the system clock makes no row early."""

    def __init__(self) -> None:
        self._offset_us = time.time_ns() // 1000 - elapsed_ns() // 1000

    def now_us(self) -> int:
        return self._offset_us + elapsed_ns() // 1000

    def stepped_us(self) -> int:
        """How far the wall clock was stepped since it was last asked. From now on this clock is as it is.

        Else this clock would stay apart from all others for ever, and what is due be told to them by another time.
        """
        before_us, wall_us, after_us = elapsed_ns() // 1000, time.time_ns() // 1000, elapsed_ns() // 1000
        step_us = wall_us - self._offset_us - before_us
        # What was interrupted between two clocks says nothing about them.
        if abs(step_us) < LEAST_STEP_US or after_us - before_us > LONGEST_LOOK_US:
            return 0
        self._offset_us += step_us
        return step_us

    def wait(self, seconds: float) -> None:
        """Sleep for so many seconds."""
        time.sleep(seconds)


class Lateness:
    """How long after their due time rows were handed to the transport; percentiles from a histogram."""

    def __init__(self) -> None:
        self._cells = np.zeros(CELLS, dtype=np.int64)
        self._max_us = 0

    def add(self, timeline: Timeline, event_us: NDArray[np.int64], now_us: int) -> None:
        """Count rows that are sent now."""
        if timeline.speed is None:
            return
        due = timeline.wall_us + (event_us - timeline.event_us) / timeline.speed
        late = np.maximum(now_us - due, 1.0)
        cells = np.minimum(np.log2(late) * BUCKETS_PER_DOUBLING, CELLS - 1).astype(np.int64)
        self._cells += np.bincount(cells, minlength=CELLS)
        self._max_us = max(self._max_us, int(late.max()))

    def milliseconds(self) -> dict[str, float] | None:
        """p50, p99 and max in milliseconds; None where no row had a due time."""
        total = int(self._cells.sum())
        if total == 0:
            return None
        steps = np.cumsum(self._cells)
        found = {name: int(np.searchsorted(steps, share * total)) for name, share in (("p50", 0.5), ("p99", 0.99))}
        upper = {name: min(2 ** ((cell + 1) / BUCKETS_PER_DOUBLING), self._max_us) for name, cell in found.items()}
        return {name: round(us / 1000, 3) for name, us in (upper | {"max": self._max_us}).items()}
