"""Rows into a table that exists, by the Storage Write API: Dataflow's sink, whose steps are Beam's own in Java.

What a job of one machine writes with is `sink`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import apache_beam as beam
import msgspec
import numpy as np
from apache_beam.io.gcp.bigquery import BigQueryDisposition, WriteToBigQuery
from apache_beam.options.pipeline_options import CrossLanguageOptions
from apache_beam.utils.subprocess_server import JavaJarServer

from beam_jobs.transforms.counts import Count
from beam_jobs.transforms.dead_letters import dead_letter
from beam_jobs.transforms.records import Message, Row
from rejeu.errors import RequestError
from rejeu.message import ROW_ID
from rejeu.spec.columns import Column
from rejeu.timeline import parse_instant, to_us


class Written(NamedTuple):
    """How a type goes to BigQuery: as which type of Beam, and what makes it of JSON's value."""

    kind: type
    make: Callable[[Any], Any]


def _boolean(value: bool | str) -> bool:
    return value is True or str(value).lower() == "true"


def _micros(value: str) -> int:
    return to_us(parse_instant(value.replace(" UTC", "Z")))


_INTEGER = Written(np.int64, int)
_FLOAT = Written(np.float64, float)
_BOOLEAN = Written(bool, _boolean)
_TEXT = Written(str, str)

TYPES: Final = {
    "STRING": _TEXT,
    "BYTES": Written(bytes, base64.b64decode),
    "INT64": _INTEGER,
    "INTEGER": _INTEGER,
    "FLOAT64": _FLOAT,
    "FLOAT": _FLOAT,
    "BOOL": _BOOLEAN,
    "BOOLEAN": _BOOLEAN,
    "TIMESTAMP": Written(np.int64, _micros),
    **dict.fromkeys(("NUMERIC", "BIGNUMERIC", "DATETIME", "DATE", "TIME", "JSON", "GEOGRAPHY", "INTERVAL"), _TEXT),
}
"""By BigQuery's names, which takes each in this form
(https://cloud.google.com/bigquery/docs/supported-data-types#supported_protocol_buffer_data_types)."""
RECORDS: Final = ("RECORD", "STRUCT")


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
            type_overrides={name: written.kind for name, written in TYPES.items()},
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

    def process(self, row: Row) -> Iterator[dict[str, Any]]:
        self._handed_over.add()
        yield written(row.values, self._columns)


def written(values: dict[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """Valid values as they are written: under the columns' own names, whatever their case, and all of them."""
    given = {name.lower(): value for name, value in values.items()}
    return {column.name: _written(given.get(column.name.lower()), column) for column in columns}


def _written(value: Any, column: Column) -> Any:
    if column.mode == "REPEATED":
        return [_one(each, column) for each in value or ()]
    return None if value is None else _one(value, column)


def _one(value: Any, column: Column) -> Any:
    return written(value, column.fields) if column.type in RECORDS else TYPES[column.type].make(value)


def _letter(refused: dict[str, Any], stream: str) -> Row:
    values = refused["failed_row"]
    row_id = str(values.get(ROW_ID))
    payload = Message(row_id, msgspec.json.encode(values, enc_hook=str), {})
    return dead_letter(stream, "insert", refused["error_message"], payload, row_id)


def _check(table: str, columns: Sequence[Column], path: str = "") -> None:
    for column in columns:
        if column.type in RECORDS:
            _check(table, column.fields, f"{path}{column.name}.")
        elif column.type not in TYPES:
            raise RequestError(
                f"--table is {table}: its column {path}{column.name} is a {column.type}, which Beam cannot write with "
                f"the Storage Write API; it must be one of {', '.join((*TYPES, *RECORDS))}"
            )
