"""Replay order: by event time, then key, then encoded bytes, with an id for each row; no reading from anywhere.

The order is total over distinct rows, so it does not depend on the order in which the storage gives them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa

from rejeu.errors import RowError, SourceError
from rejeu.message import MAX_BODY_BYTES, MAX_MESSAGE_BYTES, digest, key_text, row_id
from rejeu.replay.encode import encode, json_values
from rejeu.replay.rows import EVENT_US, ROW, key_columns
from rejeu.timeline import Position, format_instant, from_us

CHUNK_ROWS = 5_000


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows in replay order: event time in microseconds, id and body of each; all of one length."""

    event_us: list[int]
    row_ids: list[str]
    data: list[bytes]


def in_order(tables: Iterable[pa.Table], stream: str, start: Position | None = None) -> Iterator[Chunk]:
    """Chunks of the rows after `start`, from tables as `rejeu.replay.rows` describes them.

    A table may begin at the instant the one before ended with, never earlier. Rows of one instant are held
    together in memory, however many tables they span.
    """
    for instants in _whole_instants(tables):
        for piece in _pieces(instants):
            yield from _chunks(piece, stream, start)


def _whole_instants(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows by time, cut so that no instant spans two tables: the last one waits for the next table."""
    held: list[pa.Table] = []
    held_us = -(2**63)
    for table in tables:
        if table.num_rows == 0:
            continue
        ordered = table.sort_by(EVENT_US)
        times = _times(ordered)
        if times[0] < held_us:
            back = f"{format_instant(from_us(int(times[0])))} after {format_instant(from_us(held_us))}"
            raise SourceError(f"the source goes back in time, to {back}: it must not change while it is replayed")
        cut = int(np.searchsorted(times, times[-1], side="left"))
        if cut > 0 or times[-1] != held_us:
            yield pa.concat_tables([*held, ordered.slice(0, cut)])
            held = []
        held.append(ordered.slice(cut))
        held_us = int(times[-1])
    if held:
        yield pa.concat_tables(held)


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    """Slices of about CHUNK_ROWS that never part an instant: encoding more at once would delay the first row."""
    times = _times(table)
    at = 0
    while at < len(times):
        end = min(at + CHUNK_ROWS, len(times))
        if end < len(times):
            whole = int(np.searchsorted(times, times[end], side="left"))
            end = whole if whole > at else int(np.searchsorted(times, times[end], side="right"))
        yield table.slice(at, end - at)
        at = end


def _chunks(piece: pa.Table, stream: str, start: Position | None) -> Iterator[Chunk]:
    times: list[int] = piece[EVENT_US].to_pylist()
    data = _bodies(piece[ROW])
    keys = _keys(piece, data)
    ordered = sorted(zip(times, keys, data, strict=True))
    ids = [
        row_id(stream, event_us, key, ordinal)
        for (event_us, key), equals in groupby(ordered, key=lambda row: row[:2])
        for ordinal, _ in enumerate(equals)
    ]
    done = 0 if start is None else _done(times, start)
    for at in range(done, len(ordered), CHUNK_ROWS):
        rows = ordered[at : at + CHUNK_ROWS]
        yield from _sendable(Chunk([row[0] for row in rows], ids[at : at + CHUNK_ROWS], [row[2] for row in rows]))


def _done(times: list[int], start: Position) -> int:
    before = sum(event_us < start.event_us for event_us in times)
    return before + min(start.count, times.count(start.event_us))


def _bodies(rows: pa.ChunkedArray) -> list[bytes]:
    """A row is a struct to be encoded, or JSON already."""
    if pa.types.is_struct(rows.type):
        return encode(pa.Table.from_struct_array(rows))
    return rows.to_pylist()  # type: ignore[no-any-return]


def _keys(piece: pa.Table, data: list[bytes]) -> list[str]:
    columns = [json_values(piece[name], piece.schema.field(name)) for name in key_columns(piece)]
    return [key_text(values) for values in zip(*columns, strict=True)] if columns else [digest(body) for body in data]


def _sendable(chunk: Chunk) -> Iterator[Chunk]:
    """The chunk; where a row of it is too large for a message, the rows before that one, and then RowError."""
    for at, (identity, body) in enumerate(zip(chunk.row_ids, chunk.data, strict=True)):
        if len(body) > MAX_BODY_BYTES:
            yield Chunk(chunk.event_us[:at], chunk.row_ids[:at], chunk.data[:at])
            size = f"{len(body):,} bytes as JSON: Pub/Sub takes {MAX_MESSAGE_BYTES:,} a message, attributes included"
            raise RowError(f"row {identity} has {size}; leave columns or the row out with a query source")
    yield chunk


def _times(table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return table[EVENT_US].to_numpy()  # type: ignore[no-any-return]
