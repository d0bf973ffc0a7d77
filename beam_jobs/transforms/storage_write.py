"""Rows into a table that exists, by the Storage Write API: Dataflow's sink, whose steps are Beam's own in Java.

What a job of one machine writes with is `sink`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import apache_beam as beam
import msgspec
import numpy as np
from apache_beam.io.gcp.bigquery import BigQueryDisposition, WriteToBigQuery
from apache_beam.options.pipeline_options import CrossLanguageOptions
from apache_beam.utils.subprocess_server import JavaJarServer

from beam_jobs.transforms.counts import Count
from beam_jobs.transforms.dead_letters import dead_letter
from beam_jobs.transforms.records import Message, Row
from rejeu.bigquery import types
from rejeu.errors import RequestError
from rejeu.message import ROW_ID
from rejeu.spec.columns import Column

Make = Callable[[Any], Any]
"""A value as it is written, made from a valid one of JSON."""

BEAM_TYPES: Final[dict[type, type]] = {int: np.int64, float: np.float64}
"""As which type of Beam's a type of Python goes, where that is another one."""


class AppendRows(beam.PTransform):
    """Rows that are valid to dead letters, of those that BigQuery refuses. Each row handed over counts on `counter`.

    At least once: what an append that is tried again has written twice, the row id removes. A dead letter names row id
    and reason, and its payload is the row as it was handed over: the message it was made of stays behind in Python.

    Raises RequestError for a column that no row could be written with.
    """

    def __init__(self, stream: str, table: str, columns: Sequence[Column], counter: str) -> None:
        super().__init__()
        _check(table, columns)
        self._stream, self._table, self._columns, self._counter = stream, table, tuple(columns), counter

    def expand(self, rows: beam.PCollection[Row]) -> beam.PCollection[Row]:
        write = WriteToBigQuery(
            self._table.replace(".", ":", 1),
            schema={"fields": [column.to_api() for column in self._columns]},
            method=WriteToBigQuery.Method.STORAGE_WRITE_API,
            use_at_least_once=True,
            create_disposition=BigQueryDisposition.CREATE_NEVER,
            write_disposition=BigQueryDisposition.WRITE_APPEND,
            type_overrides=type_overrides(),
        )
        values = rows | "hand over" >> beam.ParDo(_HandOverFn(self._stream, self._columns, self._counter))
        # As a pipeline does that is a context manager, which would wait for a streaming job's end.
        services = rows.pipeline.options.view_as(CrossLanguageOptions).beam_services
        with JavaJarServer.beam_services(services), JavaJarServer.cache_subprocesses():
            refused = values | "append" >> write
        return refused.failed_rows_with_errors | "refused" >> beam.Map(_letter, self._stream)


class _HandOverFn(beam.DoFn):
    def __init__(self, stream: str, columns: tuple[Column, ...], counter: str) -> None:
        self._columns = columns
        self._handed_over = Count(stream, counter)

    def setup(self) -> None:
        self._write = writer(self._columns)

    def process(self, row: Row) -> Iterator[dict[str, Any]]:
        self._handed_over.add()
        yield self._write(row.values)


def type_overrides() -> dict[str, type]:
    """As which type Beam takes each of BigQuery's types, by all their names."""
    return {
        name: BEAM_TYPES.get(each.append_as, each.append_as)
        for each in types.TYPES
        if each.append_as is not None
        for name in each.names
    }


def writer(columns: Sequence[Column]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What makes valid values those that are written: under the columns' own names, whatever their case, and all."""
    makes = [(column.name, column.name.lower(), _maker(column)) for column in columns]

    def write(values: dict[str, Any]) -> dict[str, Any]:
        given = {name.lower(): value for name, value in values.items()}
        return {name: make(given.get(key)) for name, key, make in makes}

    return write


def _maker(column: Column) -> Make:
    make = writer(column.fields) if column.type in types.RECORDS else _appendable(column.type).append
    if column.mode == "REPEATED":
        return lambda values: [make(each) for each in values or ()]
    return lambda value: None if value is None else make(value)


def _appendable(name: str) -> types.ColumnType:
    """Raises KeyError for a type that `_check` refuses."""
    kind = types.find(name)
    if kind is None or kind.append_as is None:
        raise KeyError(name)
    return kind


def _letter(refused: dict[str, Any], stream: str) -> Row:
    values = refused["failed_row"]
    row_id = str(values.get(ROW_ID))
    payload = Message(row_id, msgspec.json.encode(values, enc_hook=str), {})
    return dead_letter(stream, "insert", refused["error_message"], payload, row_id)


def _check(table: str, columns: Sequence[Column], path: str = "") -> None:
    for column in columns:
        if column.type in types.RECORDS:
            _check(table, column.fields, f"{path}{column.name}.")
        elif column.type not in (known := type_overrides()):
            raise RequestError(
                f"--table is {table}: its column {path}{column.name} is a {column.type}, which Beam cannot write with "
                f"the Storage Write API; it must be one of {', '.join((*known, *types.RECORDS))}"
            )
