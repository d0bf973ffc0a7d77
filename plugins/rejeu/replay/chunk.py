"""Chunk: consecutive rows in replay order, and where among all rows they stand; how they are made is not here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rejeu.timeline import Position


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive rows in replay order: event time in microseconds, id and body of each; all of one length.

    `ordering` is each row's ordering key, None where the request has none. `before` counts the rows of the first
    row's instant that earlier chunks hold.
    """

    event_us: NDArray[np.int64]
    row_ids: pa.LargeStringArray
    data: pa.LargeBinaryArray
    ordering: pa.LargeStringArray | None = None
    before: int = 0

    def __len__(self) -> int:
        return len(self.event_us)

    def place_behind(self, end: int) -> Position:
        """The place behind the first `end` rows, one at least."""
        last_us = int(self.event_us[end - 1])
        first = int(np.searchsorted(self.event_us, last_us))
        return Position(last_us, end - first + (self.before if first == 0 else 0))

    def index(self, place: Position | None) -> int:
        """How many rows from the first on lie before this place."""
        if place is None:
            return 0
        first, last = (int(np.searchsorted(self.event_us, place.event_us, side)) for side in ("left", "right"))
        return first + min(max(place.count - (self.before if first == 0 else 0), 0), last - first)

    def part(self, at: int, end: int) -> Chunk:
        """The rows from index `at` on, up to `end`."""
        first = int(np.searchsorted(self.event_us, self.event_us[at]))
        before = at - first + (self.before if first == 0 else 0)
        own = slice(at, end)
        ordering = None if self.ordering is None else self.ordering[own]
        return Chunk(self.event_us[own], self.row_ids[own], self.data[own], ordering, before)
