"""The shape of rows from every source to `rejeu.replay.order`: an Arrow table with three kinds of columns.

`event_us` (int64, no nulls), `row` (a struct, or bytes where it is JSON already), and the key's
columns after it. Times never go back from one table to the next; within a table, rows are in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rejeu.errors import SourceError
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source.times import event_times

EVENT_US = "event_us"
ROW = "row"


def arrange(table: pa.Table, request: ReplayRequest) -> pa.Table:
    """The table's rows in the common shape. Raises SourceError for a missing column, RowError for a bad time."""
    check_columns(table.schema, request)
    return name_columns(
        [event_column(table, request), table.to_struct_array(), *(_column(table, name) for name in request.key)]
    )


def event_column(table: pa.Table, request: ReplayRequest) -> pa.ChunkedArray:
    """The rows' event times. Raises as `rejeu.replay.source.times.event_times` does."""
    return event_times(_column(table, request.event_time), request.event_time, request.time_unit)


def name_columns(columns: Sequence[pa.ChunkedArray | pa.Array]) -> pa.Table:
    """Event time, row, then the key's columns, as a table."""
    return pa.table(list(columns), names=[EVENT_US, ROW, *(f"key{index}" for index in range(len(columns) - 2))])


def key_columns(rows: pa.Table) -> list[str]:
    names: list[str] = rows.column_names[2:]
    return names


def times_of(rows: pa.Table) -> NDArray[np.int64]:
    return rows[EVENT_US].to_numpy()  # type: ignore[no-any-return]


def by_time(rows: pa.Table) -> pa.Table:
    """The same rows sorted by time; rows that are sorted already are not copied."""
    times = times_of(rows)
    return rows if bool((times[1:] >= times[:-1]).all()) else rows.sort_by(EVENT_US)


def clip(rows: pa.Table, from_us: int | None, until_us: int | None) -> pa.Table:
    """Only the rows of this window: `from_us` inclusive, `until_us` exclusive."""
    if from_us is not None:
        rows = rows.filter(pc.field(EVENT_US) >= from_us)
    return rows if until_us is None else rows.filter(pc.field(EVENT_US) < until_us)


def arranged(
    tables: Iterable[pa.Table], request: ReplayRequest, from_us: int | None, until_us: int | None
) -> Iterator[pa.Table]:
    """The rows of this window in the common shape, of tables whose times never go back."""
    for table in tables:
        if table.num_rows:
            rows = arrange(table, request)
            if until_us is not None and pc.min(rows[EVENT_US]).as_py() >= until_us:
                return
            yield clip(rows, from_us, until_us)


def check_columns(schema: pa.Schema, request: ReplayRequest) -> None:
    """Raises SourceError where the event time or a key is not a column of the source; `a.b` is a field of a record."""
    for flag, name in [("--event-time", request.event_time), *(("--key", key) for key in request.key)]:
        known = pa.struct(schema)
        for depth, part in enumerate(parts := name.split(".")):
            if not pa.types.is_struct(known) or known.get_field_index(part) < 0:
                where = "the source" if depth == 0 else ".".join(parts[:depth])
                raise SourceError(f"{flag} {name}: {where} has no {part!r}; {_choices(known, where)}")
            known = known.field(part).type


def _choices(known: pa.DataType, where: str) -> str:
    if not pa.types.is_struct(known):
        return f"{where} is no single record but {known}: name a column outside of it"
    return f"name one of {', '.join(sorted(field.name for field in known))}"


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    first, *rest = name.split(".")
    return pc.struct_field(table[first], rest) if rest else table[first]
