"""Replay order: by event time, then key, then encoded bytes, with an id for each row; nothing is read here.

The order is total over distinct rows, so it does not depend on the order in which the storage returns them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Final
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rejeu.errors import RowError, SourceError
from rejeu.jobs.request import ReplayRequest
from rejeu.message import MAX_BODY_BYTES, MAX_MESSAGE_BYTES, digest
from rejeu.replay.chunk import Chunk
from rejeu.replay.format.encode import encode, key_values
from rejeu.replay.format.ids import key_texts, row_ids
from rejeu.replay.source.rows import ROW, by_time, key_columns, times_of
from rejeu.timeline import Position, format_instant, from_us

log = logging.getLogger(__name__)

CHUNK_ROWS: Final = 5_000
CHUNK_BYTES: Final = 16_000_000
"""A handful of chunks is ready ahead of time."""
TEXT: Final = pa.large_string()


def in_order(tables: Iterable[pa.Table], request: ReplayRequest, start: Position | None = None) -> Iterator[Chunk]:
    """Chunks of the request's rows after `start`, from tables as `rejeu.replay.source.rows` describes them.

    A table may begin at the instant that the one before it ended with, never earlier. All rows of an instant are in
    memory together, however many tables they span.
    """
    # Each answer of an API is a whole instant: it need not wait for the next one.
    for instants in tables if request.api else _whole_instants(tables):
        for piece in _pieces(instants):
            rows = _ordered(piece, request)
            first = _first_after(rows, start)
            for at, end in pairwise(_even_cuts(len(rows) - first, rows.data.nbytes)):
                yield from _sendable(rows.part(first + at, first + end))


def _first_after(rows: Chunk, start: Position | None) -> int:
    """The index of the first row to publish: behind `start`, or at its instant where other rows stand there now.

    What comes twice then has the same row id, and nothing that came meanwhile is left out.
    """
    if start is None or rows.agrees(start):
        return rows.index(start)
    first = rows.index(Position(start.event_us))
    if first < len(rows) and rows.event_us[first] == start.event_us:
        log.info(
            "the source has changed at %s: that instant is published again", format_instant(from_us(start.event_us))
        )
    return first


def _whole_instants(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows by time, cut so that no instant spans two tables: the last instant waits for the next table."""
    held: list[pa.Table] = []
    held_us = -(2**63)
    for table in tables:
        if table.num_rows == 0:
            continue
        ordered = by_time(table)
        times = times_of(ordered)
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
    """Small slices that never split an instant: encoding more at once would delay the first row."""
    times = times_of(table)
    inner = np.searchsorted(times, times[_even_cuts(len(times), table.nbytes)[1:-1]]).tolist()
    for at, end in pairwise(sorted({0, *inner, len(times)})):
        yield table.slice(at, end - at).combine_chunks()


def _even_cuts(count: int, size: int) -> list[int]:
    """Where to cut `count` rows of `size` bytes into parts of about CHUNK_ROWS and at most about CHUNK_BYTES.

    Both ends are among the cuts; without rows there are none.
    """
    parts = min(count, max(1, round(count / CHUNK_ROWS), -(-size // CHUNK_BYTES)))
    return [count * part // parts for part in range(parts + 1)] if count else []


def _ordered(piece: pa.Table, request: ReplayRequest) -> Chunk:
    """This shard's rows of the piece as one chunk."""
    columns = [key_values(piece[name], piece.schema.field(name)) for name in key_columns(piece)]
    keys = key_texts(columns) if columns else None
    order_columns = [columns[request.key.index(name)] for name in request.ordering_key]
    ordering = key_texts(order_columns) if order_columns else None
    if keys is not None and request.shard is not None:
        # Rows of one ordering key stay together: two replays could not keep their order.
        own = _own(keys if ordering is None else ordering, request)
        piece, keys = piece.filter(own), keys.filter(own)
        ordering = None if ordering is None else ordering.filter(own)
    times, data = times_of(piece), _bodies(piece[ROW])
    if keys is None:
        keys = pa.array([digest(body) for body in data.to_pylist()], TEXT)
        if request.shard is not None:
            own = _own(keys, request)
            times, data, keys = times[own.to_numpy(zero_copy_only=False)], data.filter(own), keys.filter(own)
    chunk = Chunk(times, keys, data, ordering)
    if not bool((times[1:] > times[:-1]).all()):
        chunk = _sorted(chunk)
    return replace(chunk, row_ids=row_ids(request.stream, chunk.event_us, chunk.row_ids, chunk.data))


def _own(keys: pa.LargeStringArray, request: ReplayRequest) -> pa.BooleanArray:
    """Which rows this shard publishes: those whose key hashes to it; the hash is the same on every machine."""
    shard = request.shard
    assert shard is not None
    hashes = (crc32(key) for key in keys.cast(pa.large_binary()).to_pylist())
    return pa.array([each % shard.count == shard.index for each in hashes], pa.bool_())


def _bodies(rows: pa.ChunkedArray) -> pa.LargeBinaryArray:
    """The rows' JSON: structs are encoded, the others are JSON already."""
    whole = rows.combine_chunks()
    if pa.types.is_struct(whole.type):
        return encode(pa.Table.from_struct_array(whole))
    return whole.cast(pa.large_binary())


def _sorted(chunk: Chunk) -> Chunk:
    """By time, then key, then body. Sorting one table is faster than sorting by its columns one after the other."""
    rows = pa.table({"at": chunk.event_us, "key": chunk.row_ids, "body": chunk.data})
    order = pc.sort_indices(rows, [(name, "ascending") for name in rows.column_names])
    ordering = None if chunk.ordering is None else chunk.ordering.take(order)
    return Chunk(chunk.event_us[order.to_numpy()], chunk.row_ids.take(order), chunk.data.take(order), ordering)


def _sendable(chunk: Chunk) -> Iterator[Chunk]:
    """The chunk. If a row is too large for a message: the rows before it, then RowError is raised."""
    sizes = pc.binary_length(chunk.data).to_numpy()
    if sizes.max() <= MAX_BODY_BYTES:
        yield chunk
        return
    at = int(np.argmax(sizes > MAX_BODY_BYTES))
    if at:
        yield chunk.part(0, at)
    size = f"{sizes[at]:,} bytes as JSON: Pub/Sub takes {MAX_MESSAGE_BYTES:,} a message, attributes included"
    raise RowError(f"row {chunk.row_ids[at]} has {size}; leave columns or the row out with a query source")
