"""Rows against a table's columns, before a sink sees them: a refusal there is late, vague, and retried for minutes."""

from __future__ import annotations

import base64
import math
import reprlib
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple

import apache_beam as beam

from beam_jobs.transforms.dead_letters import dead_letter
from beam_jobs.transforms.records import DEAD, ROWS, Row
from rejeu.message import ROW_ID
from rejeu.spec.columns import Column

Check = Callable[[Any], str | None]
"""What is wrong with a value, in the words that follow its name; None where nothing is."""

SHOWN: Final = reprlib.Repr()
"""How a reason repeats a wrong value: shortened, however large and deep it is; the payload has it whole."""
SHOWN.maxstring = SHOWN.maxother = SHOWN.maxlong = 100
SHOWN.fillvalue = "…"

EXACT: Final = Context(prec=100)
"""More digits than any BIGNUMERIC has: the default context would round at 28."""


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
    check = _check_of_record(column) if column.type in ("RECORD", "STRUCT") else _check_of_type(column)
    if column.mode == "REPEATED":
        return _check_of_each(check)
    missing = " is missing: the column is REQUIRED" if column.mode == "REQUIRED" else None
    return lambda value: missing if value is None else check(value)


def _check_of_each(check: Check) -> Check:
    def check_array(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, list):
            return f" is {SHOWN.repr(value)}: it must be an array, for the column is REPEATED"
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
            return f" is {SHOWN.repr(value)}: it must be an object, for the column is a {column.type}"
        fault = find_fault(value)
        return None if fault is None else f".{fault}"

    return check_record


def _check_of_type(column: Column) -> Check:
    rule = RULES.get(column.type)
    if rule is None:
        return lambda value: None

    def check_type(value: Any) -> str | None:
        try:
            if rule.check(value):
                return None
        except (ValueError, TypeError, ArithmeticError):
            pass
        return f" is {SHOWN.repr(value)}: a {column.type} must be {rule.text}"

    return check_type


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bytes(value: Any) -> bool:
    return isinstance(value, str) and base64.b64decode(value, validate=True) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and not isinstance(value, float) and -(2**63) <= int(value) < 2**63


def _is_float(value: Any) -> bool:
    # JSON has no NaN and no Infinity: BigQuery takes them as text.
    return _is_number(value) and (isinstance(value, str) or math.isfinite(value)) and float(value) is not None


def _is_decimal(whole_digits: int, scale: int) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not _is_number(value):
            return False
        number = Decimal(str(value)).normalize(EXACT)
        exponent = number.as_tuple().exponent
        return isinstance(exponent, int) and -exponent <= scale and number.adjusted() < whole_digits

    return check


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false"))


def _is_timestamp(value: Any) -> bool:
    return datetime.fromisoformat(value.replace(" UTC", "Z")).tzinfo is not None if _is_text(value) else False


def _is_datetime(value: Any) -> bool:
    return datetime.fromisoformat(value).tzinfo is None


def _is_date(value: Any) -> bool:
    return date.fromisoformat(value) is not None


def _is_time(value: Any) -> bool:
    return time.fromisoformat(value).tzinfo is None


class Rule(NamedTuple):
    """What a type takes: `check` may also raise ValueError, TypeError or ArithmeticError to say no."""

    check: Callable[[Any], bool]
    text: str


_INTEGER = Rule(_is_integer, "a whole number of 64 bits, or its digits as text")
_FLOAT = Rule(_is_float, "a number, or its digits as text")
_BOOLEAN = Rule(_is_boolean, "true or false")

RULES: Final = {
    "STRING": Rule(_is_text, "text"),
    "BYTES": Rule(_is_bytes, "base64 text"),
    "INT64": _INTEGER,
    "INTEGER": _INTEGER,
    "FLOAT64": _FLOAT,
    "FLOAT": _FLOAT,
    "NUMERIC": Rule(_is_decimal(29, 9), "a number of 29 digits before the point and 9 behind it, at most"),
    "BIGNUMERIC": Rule(_is_decimal(38, 38), "a number of 38 digits before the point and 38 behind it, at most"),
    "BOOL": _BOOLEAN,
    "BOOLEAN": _BOOLEAN,
    "TIMESTAMP": Rule(_is_timestamp, "an ISO 8601 time with a zone, such as 2021-05-01T00:00:00Z"),
    "DATETIME": Rule(_is_datetime, "an ISO 8601 time without a zone, such as 2021-05-01T00:00:00"),
    "DATE": Rule(_is_date, "a date, such as 2021-05-01"),
    "TIME": Rule(_is_time, "a time of day, such as 09:30:00"),
    "JSON": Rule(_is_text, "JSON as text"),
    "GEOGRAPHY": Rule(_is_text, "text"),
    "INTERVAL": Rule(_is_text, "text"),
}
"""By BigQuery's names of the types, old and new; a type that is not here is left to BigQuery."""
