"""Event times from Arrow columns and JSON values of any type that a source may have; how SQL sees them is not here."""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from rejeu.errors import RequestError, RowError, SourceError
from rejeu.request import TimeUnit
from rejeu.timeline import parse_instant, to_us

MICROSECONDS: Final[dict[TimeUnit, int]] = {"s": 1_000_000, "ms": 1_000, "us": 1}
"""How many microseconds each unit of an integer event time has."""
RULE: Final = "an event time is a timestamp, a date, ISO 8601 text with a zone, or an integer with --time-unit"


def event_times(column: pa.ChunkedArray, name: str, unit: TimeUnit | None) -> pa.ChunkedArray:
    """Microseconds since the epoch, int64: nanoseconds are cut off, times without a zone are UTC.

    Raises RowError for a null or unreadable time, SourceError for a type that is no time.
    """
    if column.null_count:
        found = f"{name} is null in {column.null_count:,} of {len(column):,} rows read"
        raise RowError(f"{found}: every row needs an event time; leave them out: a query with WHERE {name} IS NOT NULL")
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        return column.cast(pa.timestamp("us", tz=zone), safe=False).cast(pa.int64())
    if pa.types.is_integer(kind):
        return pc.multiply_checked(column.cast(pa.int64()), unit_factor(unit, name))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.chunked_array([[text_time(text, name) for text in column.to_pylist()]], pa.int64())
    raise SourceError(f"{name} is {kind}: {RULE}; convert it in a query")


def unit_factor(unit: TimeUnit | None, name: str) -> int:
    """Microseconds in one unit; raises SourceError where an integer has none."""
    if unit is None:
        raise SourceError(f"{name} is an integer, and its unit is unknown: give --time-unit s, ms or us")
    return MICROSECONDS[unit]


def json_time(value: object, name: str, unit: TimeUnit | None) -> int:
    """The event time of a JSON value, which may have its integers as text. Raises RowError."""
    if unit is None and isinstance(value, str):
        return text_time(value, name)
    if unit is not None and isinstance(value, int | str) and re.fullmatch(r"-?\d+", str(value)):
        return int(value) * MICROSECONDS[unit]
    raise RowError(f"{name} is {value!r}: {RULE}")


def text_time(text: str, name: str) -> int:
    """ISO 8601, or the way BigQuery exports a TIMESTAMP: `2021-05-01 00:00:00 UTC`. Raises RowError."""
    try:
        return to_us(parse_instant(text.removesuffix(" UTC") + "Z" if text.endswith(" UTC") else text))
    except RequestError as error:
        raise RowError(f"{name}: {error}; {RULE}") from None
