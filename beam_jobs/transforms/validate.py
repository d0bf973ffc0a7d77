"""Rows against a table's columns, before a sink sees them: a refusal there is late, vague, and retried for minutes."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple

import apache_beam as beam

from beam_jobs.transforms.dead_letters import dead_letter
from beam_jobs.transforms.records import DEAD, ROWS, Row
from rejeu.pipelines import Column

MAX_SHOWN: Final = 100
"""Characters of a wrong value that a reason repeats; the payload has it whole."""

EXACT: Final = Context(prec=100)
"""More digits than any BIGNUMERIC has: the default context would round at 28."""


class Validate(beam.PTransform):
    """Rows to (rows, dead letters): every column known, of its type, and there where it is REQUIRED."""

    def __init__(self, stream: str, columns: Sequence[Column]) -> None:
        super().__init__()
        self._fn = _ValidateFn(stream, tuple(columns))

    def expand(self, rows: beam.PCollection[Row]) -> beam.pvalue.DoOutputsTuple:
        return rows | beam.ParDo(self._fn).with_outputs(DEAD, main=ROWS)


class _ValidateFn(beam.DoFn):
    def __init__(self, stream: str, columns: tuple[Column, ...]) -> None:
        self._stream, self._columns = stream, columns

    def process(self, row: Row) -> Iterator[Row | beam.pvalue.TaggedOutput]:
        fault = find_fault(row.values, self._columns)
        if fault is None:
            yield row
        else:
            yield beam.pvalue.TaggedOutput(DEAD, dead_letter(self._stream, "validate", fault, row.message, row.row_id))


def find_fault(values: dict[str, Any], columns: Sequence[Column], path: str = "") -> str | None:
    """The first thing that is wrong with these values, or None. Column names know no case, as in BigQuery."""
    known = {column.name.lower() for column in columns}
    for name in values:
        if name.lower() not in known:
            return f"{path}{name}: there is no such column; the table has {', '.join(each.name for each in columns)}"
    given = {name.lower(): value for name, value in values.items()}
    faults = (_fault(given.get(column.name.lower()), column, path + column.name) for column in columns)
    return next(filter(None, faults), None)


def _fault(value: Any, column: Column, path: str) -> str | None:
    if column.mode == "REPEATED":
        return _repeated_fault(value, column, path)
    if value is None:
        return f"{path} is missing: the column is REQUIRED" if column.mode == "REQUIRED" else None
    return _value_fault(value, column, path)


def _repeated_fault(value: Any, column: Column, path: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, list):
        return f"{path} is {_shown(value)}: it must be an array, for the column is REPEATED"
    for index, each in enumerate(value):
        if each is None:
            return f"{path}[{index}] is null: an array of BigQuery holds no nulls"
        if (fault := _value_fault(each, column, f"{path}[{index}]")) is not None:
            return fault
    return None


def _value_fault(value: Any, column: Column, path: str) -> str | None:
    if column.type in ("RECORD", "STRUCT"):
        if isinstance(value, dict):
            return find_fault(value, column.fields, f"{path}.")
        return f"{path} is {_shown(value)}: it must be an object, for the column is a {column.type}"
    rule = RULES.get(column.type)
    if rule is None or _holds(rule.check, value):
        return None
    return f"{path} is {_shown(value)}: a {column.type} must be {rule.text}"


def _holds(check: Callable[[Any], bool], value: Any) -> bool:
    try:
        return check(value)
    except (ValueError, TypeError, ArithmeticError):
        return False


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


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
        number = Decimal(str(value)).normalize(EXACT)
        exponent = number.as_tuple().exponent
        return (
            _is_number(value) and isinstance(exponent, int) and -exponent <= scale and number.adjusted() < whole_digits
        )

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
