"""Writes rows to a Bigtable table that exists, and sums of rows there; the pipeline decides which rows and sums.

A sum is never incremented: it is calculated again from the rows below it, and the timestamp of its cell is the number
of events that it counts. When two workers add up the same rows at once, the one that saw more events wins, in whatever
order they write; docs/decisions/0016-occupancy.md says why that is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Final

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from google.api_core.exceptions import BadRequest
from google.cloud.bigtable.data import (
    Mutation,
    MutationsExceptionGroup,
    ReadRowsQuery,
    RetryExceptionGroup,
    RowMutationEntry,
    SetCell,
    Table,
)
from google.cloud.bigtable.data.row_filters import CellsColumnLimitFilter, ColumnQualifierRegexFilter, RowFilterChain

from beam_jobs.transforms.dead_letters import dead_letter
from beam_jobs.transforms.records import DEAD, Row
from rejeu.gcp.bigtable import SEPARATOR, WRITE_TIME, range_of
from rejeu.gcp.clients import bigtable_table
from rejeu.timeline import format_instant

MAX_ROWS: Final = 1000
"""Most rows of one call; Bigtable takes 100,000 mutations, and half a megabyte of ranges to read."""
PATIENCE_SECONDS: Final = 300.0
"""Long enough for a server to restart; then the bundle fails, and the runner tries it again or ends the job."""
COUNTED_ONE_MICROS: Final = 1000
"""Bigtable's timestamps are whole milliseconds."""

Parts = Callable[[Row], tuple[str, ...]]
"""The parts of an event's key and of its sums' keys, from coarse to fine."""


@dataclass(frozen=True)
class Kind:
    """Rows whose keys begin with `name`, and the column that holds their number."""

    name: str
    family: str
    column: str
    is_sum: bool = True
    says_when: bool = False
    """Whether a row also says when it was written."""


@dataclass(frozen=True)
class Sum:
    """Rows of one kind, each the sum of those rows of another kind whose keys go on in the same way.

    `scope` is a format of an event's parts for the rest of the key: `{0}#{1:.16}`. If it ends with the separator, the
    sum counts all rows below those parts.
    """

    kind: Kind
    of: Kind
    scope: str

    def key(self, scope: str) -> str:
        return f"{self.kind.name}{SEPARATOR}{scope}".removesuffix(SEPARATOR)


@cache
def table_for(instance: str, name: str) -> Table:
    """The table, with one client for a process and table: the DirectRunner sets up a DoFn for each bundle."""
    return bigtable_table(instance, name, PATIENCE_SECONDS)


class _InFewCalls(beam.DoFn):
    """Collects rows and calls `flush` with many at once; yields rows and, as another output, dead letters."""

    def __init__(self, stream: str, instance: str) -> None:
        self._stream, self._instance = stream, instance

    @property
    def table(self) -> Table:
        return table_for(self._instance, self._stream)

    def start_bundle(self) -> None:
        self._rows: list[Row] = []

    def process(self, row: Row) -> Iterator[Row | TaggedOutput]:
        self._rows.append(row)
        if len(self._rows) == MAX_ROWS:
            yield from self._flushed()

    def finish_bundle(self) -> Iterator[object]:
        for each in self._flushed():
            if isinstance(each, TaggedOutput):
                yield TaggedOutput(each.tag, GlobalWindows.windowed_value(each.value))
            else:
                yield GlobalWindows.windowed_value(each)

    def flush(self, rows: Sequence[Row]) -> Iterator[Row | TaggedOutput]:
        raise NotImplementedError

    def dead(self, step: str, reason: str, row: Row) -> TaggedOutput:
        return TaggedOutput(DEAD, dead_letter(self._stream, step, reason, row.message, row.row_id))

    def _flushed(self) -> Iterator[Row | TaggedOutput]:
        rows, self._rows = self._rows, []
        if rows:
            yield from self.flush(rows)


class WriteEvents(_InFewCalls):
    """Writes rows by their ids, so that repeats change nothing, and yields them when they are stored."""

    def __init__(self, stream: str, instance: str, to_entry: Callable[[Row], RowMutationEntry]) -> None:
        super().__init__(stream, instance)
        self._to_entry = to_entry

    def flush(self, rows: Sequence[Row]) -> Iterator[Row | TaggedOutput]:
        by_key = {entry.row_key: (entry, row) for entry, row in ((self._to_entry(row), row) for row in rows)}
        refused = write(self.table, [entry for entry, _ in by_key.values()])
        for key, (_, row) in by_key.items():
            yield self.dead("write", refused[key], row) if key in refused else row


class AddUp(_InFewCalls):
    """Calculates again the sums that the rows belong to, each once, and yields one row for each stored sum.

    A sum that cannot be calculated becomes a dead letter of the newest row that it belongs to.
    """

    def __init__(self, stream: str, instance: str, total: Sum, parts: Parts) -> None:
        super().__init__(stream, instance)
        self._sum, self._parts = total, parts

    def flush(self, rows: Sequence[Row]) -> Iterator[Row | TaggedOutput]:
        touched = {self._sum.scope.format(*self._parts(row)): row for row in rows}
        totals, faults = self._add_up(touched)
        entries = {scope: self._entry(scope, *totals[scope]) for scope in touched if scope not in faults}
        refused = write(self.table, list(entries.values()))
        for scope, row in touched.items():
            fault = faults.get(scope) or refused.get(entries[scope].row_key)
            yield self.dead("calculate", f"{self._sum.key(scope)}: {fault}", row) if fault else row

    def _add_up(self, scopes: dict[str, Row]) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
        """Sum and number of events by scope, and for scopes with a wrong row below them what is wrong."""
        below = self._sum.of
        totals, faults = dict.fromkeys(scopes, (0, 0)), dict[str, str]()
        query = ReadRowsQuery(
            row_ranges=[range_of(f"{below.name}{SEPARATOR}{scope}") for scope in scopes],
            # Overwritten cells remain until Bigtable removes them.
            row_filter=RowFilterChain([ColumnQualifierRegexFilter(below.column), CellsColumnLimitFilter(1)]),
        )
        for found in self.table.read_rows(query):
            key, cell = found.row_key.decode(), found.cells[0]
            scope = self._sum.scope.format(*key.split(SEPARATOR)[1:])
            total, count = totals[scope]
            try:
                total += int(cell.value)
            except ValueError:
                faults[scope] = f"{key} holds {cell.value!r}, which is not a whole number: mend or delete that row"
            totals[scope] = total, count + (cell.timestamp_micros // COUNTED_ONE_MICROS if below.is_sum else 1)
        return totals, faults

    def _entry(self, scope: str, total: int, count: int) -> RowMutationEntry:
        kind, stamp = self._sum.kind, count * COUNTED_ONE_MICROS
        cells: list[Mutation] = [SetCell(kind.family, kind.column, str(total), stamp)]
        if kind.says_when:
            cells.append(SetCell(kind.family, WRITE_TIME, format_instant(datetime.now(UTC)), stamp))
        return RowMutationEntry(self._sum.key(scope), cells)


def write(table: Table, entries: Sequence[RowMutationEntry]) -> dict[bytes, str]:
    """Write all entries; returns the keys of those that are themselves refused by Bigtable, and why.

    Raises MutationsExceptionGroup for errors that are not an entry's own fault.
    """
    if not entries:
        return {}
    try:
        table.bulk_mutate_rows(list(entries))
    except MutationsExceptionGroup as failed:
        causes = {each.index: _cause(each) for each in failed.exceptions}
        if not all(isinstance(cause, BadRequest) for cause in causes.values()):
            raise
        if len(causes) == len(entries) > 1:
            # A call that is refused as a whole does not name the entry: halve it until one entry is left.
            middle = len(entries) // 2
            return write(table, entries[:middle]) | write(table, entries[middle:])
        return {entries[index].row_key: str(cause) for index, cause in causes.items()}
    return {}


def _cause(failed: Exception) -> BaseException | None:
    """The error of the last try."""
    cause = failed.__cause__
    return cause.exceptions[-1] if isinstance(cause, RetryExceptionGroup) else cause
