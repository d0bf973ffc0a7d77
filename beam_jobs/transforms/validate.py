"""Rows against a table's columns, before a sink sees them: a refusal there is late, vague, and retried for minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from beam_jobs.transforms.dead_letters import dead_letter
from beam_jobs.transforms.records import DEAD, ROWS, Row
from rejeu.bigquery import types
from rejeu.errors import told
from rejeu.message import ROW_ID
from rejeu.spec.columns import Column

Check = Callable[[Any], str | None]
"""What is wrong with a value, in the words that follow its name; None where nothing is."""


class Validate(beam.PTransform):
    """Rows to (rows, dead letters): every column known, of its type, and there where it is REQUIRED.

    Where there is a column for it, as in every streaming table, a row has its id there.
    """

    def __init__(self, stream: str, columns: Sequence[Column]) -> None:
        super().__init__()
        self._fn = _ValidateFn(stream, tuple(columns))

    def expand(self, rows: beam.PCollection[Row]) -> beam.pvalue.DoOutputsTuple:
        return rows | beam.ParDo(self._fn).with_outputs(DEAD, main=ROWS)


class _ValidateFn(beam.DoFn):
    def __init__(self, stream: str, columns: tuple[Column, ...]) -> None:
        self._stream, self._columns = stream, columns
        self._has_row_ids = any(column.name.lower() == ROW_ID for column in columns)

    def setup(self) -> None:
        self._find_fault = fault_finder(self._columns)

    def process(self, row: Row) -> Iterator[Row | beam.pvalue.TaggedOutput]:
        if self._has_row_ids:
            row = row._replace(values=row.values | {ROW_ID: row.row_id})
        fault = self._find_fault(row.values)
        if fault is None:
            yield row
        else:
            yield beam.pvalue.TaggedOutput(DEAD, dead_letter(self._stream, "validate", fault, row.message, row.row_id))


def fault_finder(columns: Sequence[Column]) -> Check:
    """What finds the first thing that is wrong with a row's values. Column names know no case, as in BigQuery."""
    checks = {column.name.lower(): (column.name, _check_of(column)) for column in columns}

    def find_fault(values: dict[str, Any]) -> str | None:
        given = {name.lower(): value for name, value in values.items()}
        if not given.keys() <= checks.keys():
            unknown = next(name for name in values if name.lower() not in checks)
            return f"{unknown}: there is no such column; the table has {', '.join(each.name for each in columns)}"
        for key, (name, check) in checks.items():
            if (fault := check(given.get(key))) is not None:
                return f"{name}{fault}"
        return None

    return find_fault


def _check_of(column: Column) -> Check:
    check = _check_of_record(column) if column.type in types.RECORDS else _check_of_type(column)
    if column.mode == "REPEATED":
        return _check_of_each(check)
    missing = " is missing: the column is REQUIRED" if column.mode == "REQUIRED" else None
    return lambda value: missing if value is None else check(value)


def _check_of_each(check: Check) -> Check:
    def check_array(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, list):
            return f" is {told(value)}: it must be an array, for the column is REPEATED"
        for index, each in enumerate(value):
            fault = " is null: an array of BigQuery holds no nulls" if each is None else check(each)
            if fault is not None:
                return f"[{index}]{fault}"
        return None

    return check_array


def _check_of_record(column: Column) -> Check:
    find_fault = fault_finder(column.fields)

    def check_record(value: Any) -> str | None:
        if not isinstance(value, dict):
            return f" is {told(value)}: it must be an object, for the column is a {column.type}"
        fault = find_fault(value)
        return None if fault is None else f".{fault}"

    return check_record


def _check_of_type(column: Column) -> Check:
    kind = types.find(column.type)
    if kind is None:
        # A type that we do not know is left to BigQuery.
        return lambda value: None
    fits, rule = kind.check, kind.rule

    def check_type(value: Any) -> str | None:
        try:
            if fits(value):
                return None
        except (ValueError, TypeError, ArithmeticError):
            pass
        return f" is {told(value)}: a {column.type} must be {rule}"

    return check_type
