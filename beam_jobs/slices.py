"""A source's messages in slices that fit into memory, and the rows that they must become; no table is read here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from beam_jobs.transforms.decode import Decode, row_ids
from rejeu.errors import RowError
from rejeu.replay.chunk import Chunk
from rejeu.replay.source.times import json_times
from rejeu.spec.types import TimeUnit

SLICE_ROWS: Final = 50_000
SLICE_BYTES: Final = 64_000_000
MINUTE_US: Final = 60_000_000
TEXT: Final = pa.large_string()


class IdWindow(NamedTuple):
    """Event times in row ids, from `from_us` to before `until_us`.

    `written_us` is the first and the last event time that such rows may have themselves; None where it is unknown.
    """

    from_us: int
    until_us: int
    written_us: tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class Slice:
    """All messages of the event times from `from_us` to before `until_us`."""

    from_us: int
    until_us: int
    event_us: NDArray[np.int64]
    row_ids: pa.ChunkedArray
    bodies: pa.ChunkedArray

    @classmethod
    def of(cls, chunks: Sequence[Chunk], from_us: int, until_us: int) -> Slice:
        times = np.concatenate([np.empty(0, np.int64), *(chunk.event_us for chunk in chunks)])
        ids = pa.chunked_array([chunk.row_ids for chunk in chunks], TEXT)
        return cls(from_us, until_us, times, ids, pa.chunked_array([chunk.data for chunk in chunks], pa.large_binary()))

    @property
    def minutes(self) -> int:
        """How many minutes have messages."""
        return len(np.unique(self.event_us // MINUTE_US))


@dataclass(frozen=True, eq=False)
class Expected:
    """The ids that a slice's rows must have, and which of its messages each one comes from."""

    window: IdWindow
    ids: pa.LargeStringArray
    messages: NDArray[np.int64]


def slices(chunks: Iterable[Chunk], from_us: int, until_us: int) -> Iterator[Slice]:
    """One or more slices that cover the whole time; they split a minute only if it is too large, an instant never."""
    held: list[Chunk] = []
    for chunk in chunks:
        held.append(chunk)
        full = max(sum(map(len, held)) / SLICE_ROWS, sum(each.data.nbytes for each in held) / SLICE_BYTES)
        if full < 1:
            continue
        last_us = int(chunk.event_us[-1])
        cut_us = last_us if full >= 2 else last_us // MINUTE_US * MINUTE_US
        before, behind = _parted(held, cut_us)
        if before:
            yield Slice.of(before, from_us, cut_us)
            from_us, held = cut_us, behind
    yield Slice.of(held, from_us, until_us)


def expect(part: Slice, transform: Decode, time_column: str, unit: TimeUnit | None) -> Expected:
    """The ids of each message's rows, as the streaming job would write them; for a refused message, its dead letter."""
    decode = transform.make_decoder()
    ids: list[str] = []
    counts: list[int] = []
    times: list[object] = []
    for row_id, body in zip(part.row_ids.to_pylist(), _each(part.bodies), strict=True):
        try:
            rows = decode(body)
        except ValueError:
            ids.append(row_id)
            counts.append(1)
            continue
        ids += row_ids(row_id, len(rows), explodes=transform.explodes)
        counts.append(len(rows))
        times += [row.get(time_column) for row in rows]
    window = IdWindow(part.from_us, part.until_us, _written_us(part, times, time_column, unit))
    return Expected(window, pa.array(ids, TEXT), np.repeat(np.arange(len(counts)), counts))


def _parted(chunks: Sequence[Chunk], at_us: int) -> tuple[list[Chunk], list[Chunk]]:
    """The rows before this event time, and those from it on."""
    before, behind = [], []
    for chunk in chunks:
        cut = int(np.searchsorted(chunk.event_us, at_us))
        if cut > 0:
            before.append(chunk.part(0, cut))
        if cut < len(chunk):
            behind.append(chunk.part(cut, len(chunk)))
    return before, behind


def _each(bodies: pa.ChunkedArray) -> Iterator[bytes]:
    """The bodies as Python objects, those of one chunk at a time."""
    for chunk in bodies.chunks:
        yield from chunk.to_pylist()


def _written_us(part: Slice, values: Sequence[object], name: str, unit: TimeUnit | None) -> tuple[int, int] | None:
    """First and last event time of rows and messages, which also finds unexpected rows; None where it is unknown."""
    try:
        span = pc.min_max(json_times(values, name, unit))
    except RowError:
        return None
    own = (part.from_us, part.until_us - 1)
    return (min(own[0], span["min"].as_py()), max(own[1], span["max"].as_py())) if values else own
