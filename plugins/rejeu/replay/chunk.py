"""Chunk: consecutive rows in replay order, and their position among all rows; how they are made is not here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rejeu.timeline import Position


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive rows in replay order: event time in microseconds, id and body of each; all of one length.

    `ordering` is each row's ordering key, None where the request has none. `before` is how many rows of the first
    row's instant are in earlier chunks.
    """

    event_us: NDArray[np.int64]
    row_ids: pa.LargeStringArray
    data: pa.LargeBinaryArray
    ordering: pa.LargeStringArray | None = None
    before: int = 0

    def __len__(self) -> int:
        return len(self.event_us)

    def position_after(self, end: int) -> Position:
        """The position after the first `end` rows; `end` is at least 1."""
        last_us = int(self.event_us[end - 1])
        first = int(np.searchsorted(self.event_us, last_us))
        return Position(last_us, end - first + (self.before if first == 0 else 0))

    def index(self, position: Position | None) -> int:
        """How many of the rows lie before this position."""
        if position is None:
            return 0
        first, last = (int(np.searchsorted(self.event_us, position.event_us, side)) for side in ("left", "right"))
        return first + min(max(position.count - (self.before if first == 0 else 0), 0), last - first)

    def part(self, at: int, end: int) -> Chunk:
        """The rows from index `at` on, up to `end`."""
        first = int(np.searchsorted(self.event_us, self.event_us[at]))
        before = at - first + (self.before if first == 0 else 0)
        own = slice(at, end)
        ordering = None if self.ordering is None else self.ordering[own]
        return Chunk(self.event_us[own], self.row_ids[own], self.data[own], ordering, before)
