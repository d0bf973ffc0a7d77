"""Chunk: consecutive rows in replay order, and their position among all rows; how they are made is not here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rejeu.timeline import Position

TEXT: Final = pa.large_string()
DIGEST_BYTES: Final = 12


def no_ids() -> pa.LargeStringArray:
    """No row id at all."""
    return pa.array([], TEXT)


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive rows in replay order: event time in microseconds, id and body of each; all of one length.

    `ordering` is each row's ordering key, None where the request has none. `before` are the ids of those rows of the
    first row's instant that are in earlier chunks.
    """

    event_us: NDArray[np.int64]
    row_ids: pa.LargeStringArray
    data: pa.LargeBinaryArray
    ordering: pa.LargeStringArray | None = None
    before: pa.LargeStringArray = field(default_factory=no_ids)

    def __len__(self) -> int:
        return len(self.event_us)

    def position_after(self, end: int) -> Position:
        """The position after the first `end` rows; `end` is at least 1."""
        last_us = int(self.event_us[end - 1])
        ids = self._ids_at(last_us, end)
        return Position(last_us, sum(map(len, ids)), _digest(ids))

    def index(self, position: Position | None) -> int:
        """How many of the rows lie before this position, by their number alone."""
        if position is None:
            return 0
        first, last = self._rows_at(position.event_us)
        return first + min(max(position.count - (len(self.before) if first == 0 else 0), 0), last - first)

    def agrees(self, position: Position) -> bool:
        """Whether the rows up to this position are those that stood there when it was reached.

        This chunk must reach as far as the position, and hold the last of those rows.
        """
        if position.count == 0 or not position.digest:
            return True
        _, last = self._rows_at(position.event_us)
        before, own = self._ids_at(position.event_us, last)
        ids = (before[: position.count], own[: max(position.count - len(before), 0)])
        return sum(map(len, ids)) == position.count and _digest(ids) == position.digest

    def part(self, at: int, end: int) -> Chunk:
        """The rows from index `at` on, up to `end`."""
        ids = [each for each in self._ids_at(int(self.event_us[at]), at) if len(each)]
        before = ids[0] if len(ids) == 1 else pa.concat_arrays(ids) if ids else no_ids()
        own = slice(at, end)
        ordering = None if self.ordering is None else self.ordering[own]
        return Chunk(self.event_us[own], self.row_ids[own], self.data[own], ordering, before)

    def _rows_at(self, event_us: int) -> tuple[int, int]:
        """Where this instant's rows begin and end."""
        first, last = (int(np.searchsorted(self.event_us, event_us, side)) for side in ("left", "right"))
        return first, last

    def _ids_at(self, event_us: int, end: int) -> tuple[pa.LargeStringArray, pa.LargeStringArray]:
        """The ids of this instant's rows up to index `end`: those in earlier chunks, and those in this one."""
        first, _ = self._rows_at(event_us)
        begins_here = first > 0 or len(self.event_us) == 0 or int(self.event_us[0]) != event_us
        return no_ids() if begins_here else self.before, self.row_ids[first:end]


def _digest(ids: Sequence[pa.LargeStringArray]) -> str:
    """A short name for these ids in their order, from the columns' bytes as they lie in memory."""
    found = blake2b(digest_size=DIGEST_BYTES)
    for column in ids:
        if len(column):
            _, offsets, texts = column.buffers()
            begins = np.frombuffer(offsets, np.int64)
            found.update(memoryview(texts)[begins[column.offset] : begins[column.offset + len(column)]])
    return found.hexdigest()
