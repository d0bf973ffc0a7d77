"""What the engine reads: the source's rows in replay order, each with its id."""

from __future__ import annotations

from collections.abc import Iterator

from rejeu.jobs.request import ReplayRequest
from rejeu.replay.chunk import Chunk
from rejeu.replay.order import in_order
from rejeu.replay.source.choose import read_rows
from rejeu.timeline import Position


def read_chunks(request: ReplayRequest, start: Position | None) -> Iterator[Chunk]:
    """The rows from `start` (None: the source's first row) up to `request.until`, exclusive, in replay order.

    The same source gives the same ids in the same order, whatever `start` is and however the storage returns rows.
    Raises SourceError and RowError, before the chunk that holds the row.
    """
    rows = read_rows(request, None if start is None else start.event_us)
    return in_order(rows, request, start)
