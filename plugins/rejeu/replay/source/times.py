"""Event times from Arrow columns and JSON values of any type that a source may have; those in SQL are not here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from rejeu.bigquery.types import BEYOND_MICROSECONDS
from rejeu.errors import RequestError, RowError, SourceError
from rejeu.spec.types import TimeUnit
from rejeu.timeline import parse_instant, to_us

MICROSECONDS: Final[dict[TimeUnit, int]] = {"s": 1_000_000, "ms": 1_000, "us": 1}
"""How many microseconds each unit of an integer event time has."""
RULE: Final = "an event time is a timestamp, a date, ISO 8601 text with a zone, or an integer with --time-unit"
BOUNDS: Final = "times lie in the years 1 to 9999; check the unit, --time-unit s, ms or us"
FIRST_US: Final = to_us(datetime.min.replace(tzinfo=UTC))
LAST_US: Final = to_us(datetime.max.replace(tzinfo=UTC))
DAY_US: Final = 86_400_000_000


def event_times(column: pa.ChunkedArray, name: str, unit: TimeUnit | None) -> pa.ChunkedArray:
    """Microseconds since the epoch, int64: nanoseconds are cut off, times without a zone are UTC.

    Raises RowError for a time that is null, unreadable or outside of the years 1 to 9999, and SourceError for a type
    that is not a time.
    """
    if column.null_count:
        found = f"{name} is null in {column.null_count:,} of {len(column):,} rows read"
        raise RowError(f"{found}: every row needs an event time; leave them out: a query with WHERE {name} IS NOT NULL")
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text_times(column, name)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        times = _micros(column)
    elif pa.types.is_integer(kind):
        times = _counted(column, known_unit(unit, name))
    else:
        raise SourceError(f"{name} is {kind}: {RULE}; convert it in a query")
    if times is None or not _between(times, FIRST_US, LAST_US):
        raise RowError(f"{name} has a {kind} out of bounds in {len(column):,} rows read: {BOUNDS}")
    return times


def known_unit(unit: TimeUnit | None, name: str) -> TimeUnit:
    """The unit of an integer event time. Raises SourceError where it is missing."""
    if unit is None:
        raise SourceError(f"{name} is an integer, and its unit is unknown: give --time-unit s, ms or us")
    return unit


def json_times(values: Sequence[Any], name: str, unit: TimeUnit | None) -> pa.ChunkedArray:
    """The event times of JSON values, whose integers may be text. Raises RowError."""
    kinds = {*map(type, values)}
    if unit is None and kinds == {str}:
        return _text_times(pa.chunked_array([values], pa.string()), name)
    if unit is not None and kinds == {int}:
        with suppress(OverflowError, RowError):
            return event_times(pa.chunked_array([values], pa.int64()), name, unit)
    return pa.chunked_array([[_json_time(value, name, unit) for value in values]], pa.int64())


def _micros(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Microseconds of timestamps and dates; None where they do not fit into 64 bits."""
    zone = column.type.tz if pa.types.is_timestamp(column.type) else None
    exact = column.type not in (pa.timestamp("ns"), pa.timestamp("ns", zone))
    with suppress(pa.ArrowInvalid):
        return column.cast(pa.timestamp("us", tz=zone), safe=exact).cast(pa.int64())
    return None


def _counted(column: pa.ChunkedArray, unit: TimeUnit) -> pa.ChunkedArray | None:
    """Microseconds of integers that count a unit since the epoch; None where they do not fit into 64 bits."""
    with suppress(pa.ArrowInvalid):
        return _micros(column.cast(pa.int64()).cast(pa.timestamp(unit)))
    return None


def _between(times: pa.ChunkedArray, first_us: int, last_us: int) -> bool:
    span = pc.min_max(times)
    return len(times) == 0 or (span["min"].as_py() >= first_us and span["max"].as_py() <= last_us)


def _text_times(texts: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """As `_text_time` reads them. If Arrow understands all of them, it reads them, many times as fast."""
    for prepare in (_as_is, _with_z, _cut):
        with suppress(pa.ArrowInvalid):
            times = prepare(texts).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
            # At the ends of the calendar Arrow accepts some times that Python refuses.
            if _between(times, FIRST_US + DAY_US, LAST_US - DAY_US):
                return times
    return pa.chunked_array([[_text_time(text, name) for text in texts.to_pylist()]], pa.int64())


def _as_is(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return texts


def _with_z(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.replace_substring(texts, " UTC", "Z")


def _cut(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.replace_substring_regex(_with_z(texts), BEYOND_MICROSECONDS, r"\1")


def _text_time(text: str, name: str) -> int:
    """ISO 8601, or the way BigQuery exports a TIMESTAMP: `2021-05-01 00:00:00 UTC`. Raises RowError."""
    try:
        return to_us(parse_instant(text.removesuffix(" UTC") + "Z" if text.endswith(" UTC") else text))
    except RequestError as error:
        raise RowError(f"{name}: {error}; {RULE}") from None


def _json_time(value: object, name: str, unit: TimeUnit | None) -> int:
    if unit is None and isinstance(value, str):
        return _text_time(value, name)
    if unit is not None and isinstance(value, int | str) and re.fullmatch(r"-?\d+", str(value)):
        event_us = int(value) * MICROSECONDS[unit]
        if FIRST_US <= event_us <= LAST_US:
            return event_us
        raise RowError(f"{name} is {value} {unit}: {BOUNDS}")
    raise RowError(f"{name} is {value!r}: {RULE}")
