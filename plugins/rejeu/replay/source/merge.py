"""Merges runs of rows by event time: which block is read next, which rows may then be returned, which are held.

The times of every block are known beforehand, so a row waits only for blocks that begin before it. Rows in order go
straight through, rows that are a little late are waited for, and rows in no order would all have to be held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush, heapreplace
from itertools import accumulate
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rejeu.replay.source.rows import by_time, times_of

BLOCK_BYTES: Final = 1_000_000
"""The approximate size of a reader's block in memory."""


@dataclass(frozen=True)
class Block:
    """Rows that are read at once, in any order: first and last time in microseconds, and size in bytes."""

    first_us: int
    last_us: int
    size: int

    @classmethod
    def of(cls, times: pa.Array | pa.ChunkedArray, size: int) -> Block:
        """The block of rows with these times, of which there is at least one."""
        span = pc.min_max(times)
        return cls(span["min"].as_py(), span["max"].as_py(), size)


@dataclass(frozen=True)
class Run:
    """Blocks that are read one after the other; their times may be in any order.

    `read` returns a table, in the shape of `rejeu.replay.source.rows`, for each block from an index on, which counts
    from 0; `open_bytes` is the memory that reading holds besides.
    """

    blocks: Sequence[Block]
    read: Callable[[int], Iterator[pa.Table]]
    open_bytes: int = 0
    skipped: int = 0

    @property
    def first_us(self) -> int:
        return min(block.first_us for block in self.blocks)

    @property
    def last_us(self) -> int:
        return max(block.last_us for block in self.blocks)

    def tables(self) -> Iterator[pa.Table]:
        """A table for each block."""
        return self.read(self.skipped)

    def within(self, from_us: int | None, until_us: int | None) -> Run:
        """The same run without those blocks at its two ends that have no row in this window."""
        wanted = [
            index
            for index, block in enumerate(self.blocks)
            if (from_us is None or block.last_us >= from_us) and (until_us is None or block.first_us < until_us)
        ]
        first, end = (wanted[0], wanted[-1] + 1) if wanted else (0, 0)
        return replace(self, blocks=self.blocks[first:end], skipped=self.skipped + first)


def overlapping_groups(runs: Iterable[Run]) -> list[list[Run]]:
    """Groups of runs in order of time; runs of different groups do not overlap."""
    groups: list[list[Run]] = []
    last_us = 0
    for run in sorted((run for run in runs if run.blocks), key=lambda run: run.first_us):
        if groups and run.first_us < last_us:
            groups[-1].append(run)
            last_us = max(last_us, run.last_us)
        else:
            groups.append([run])
            last_us = run.last_us
    return groups


def held_bytes(runs: Sequence[Run]) -> int:
    """The most bytes that merging these must hold at a time; `merge` may hold up to twice as much."""
    blocks = [iter(run.blocks) for run in runs]
    opened = [False] * len(runs)
    waiting: list[tuple[int, int]] = []
    held = most = 0
    for index, bound in _steps(runs):
        block = next(blocks[index])
        heappush(waiting, (block.last_us, block.size))
        held += block.size
        if not opened[index]:
            opened[index] = True
            heappush(waiting, (runs[index].last_us, runs[index].open_bytes))
            held += runs[index].open_bytes
        most = max(most, held)
        while waiting and (bound is None or waiting[0][0] <= bound):
            held -= heappop(waiting)[1]
    return most


def merge(runs: Sequence[Run]) -> Iterator[pa.Table]:
    """All rows of these runs, in tables whose times never go back from one to the next."""
    readers = [run.tables() for run in runs]
    held: list[pa.Table] = []
    size = kept = 0
    for index, bound in _steps(runs):
        table = by_time(next(readers[index]))
        held.append(table)
        size += table.nbytes
        # Cutting many held tables takes time: wait until as much has come as was kept the last time.
        if bound is None or size >= 2 * kept:
            parts = [_cut(table, bound) for table in held]
            held = [after for _, after in parts if after.num_rows]
            size = kept = sum(table.nbytes for table in held)
            ready = pa.concat_tables([before for before, _ in parts])
            if ready.num_rows:
                yield ready


def _steps(runs: Sequence[Run]) -> Iterator[tuple[int, int | None]]:
    """Which run's next block is read, and up to which time (inclusive) all rows have then come; None: all have."""
    # The rest of a run begins at the last of its floors.
    floors = [list(accumulate((block.first_us for block in reversed(run.blocks)), min)) for run in runs]
    following = [(floor[-1], index) for index, floor in enumerate(floors) if floor]
    heapify(following)
    while following:
        _, index = following[0]
        floors[index].pop()
        if floors[index]:
            heapreplace(following, (floors[index][-1], index))
        else:
            heappop(following)
        yield index, following[0][0] if following else None


def _cut(ordered: pa.Table, bound: int | None) -> tuple[pa.Table, pa.Table]:
    """The rows up to this time, inclusive, and those after it."""
    end = ordered.num_rows if bound is None else int(np.searchsorted(times_of(ordered), bound, side="right"))
    return ordered.slice(0, end), ordered.slice(end)
