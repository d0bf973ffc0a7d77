"""The types of a spec's fields: speeds, durations, schedules, paths, and the names of columns, tables and topics."""

from __future__ import annotations

import re
from datetime import timedelta
from string import Formatter
from typing import Annotated, Literal

from croniter import croniter
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from rejeu.errors import RequestError

COLUMN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
TABLE = r"^([a-z][a-z0-9-]{4,28}[a-z0-9]\.)?[A-Za-z0-9_]+\.[A-Za-z0-9_-]+$"
TOPIC = r"^[A-Za-z][A-Za-z0-9_.~+%-]{2,254}$"
DURATION = r"^(\d+(?:\.\d+)?)(ms|s|m|h)$"

MAX: Literal["max"] = "max"

_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours"}


def _speed(value: object) -> float | Literal["max"]:
    if value == MAX:
        return MAX
    try:
        speed = float(str(value))
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise ValueError(f'it is {value}: it must be a number above 0, or "{MAX}"')
    return speed


def parse_speed(text: str) -> Speed:
    """A speed as a person writes it. Raises RequestError."""
    try:
        return _speed(text)
    except ValueError as error:
        raise RequestError(f"speed: {error}") from None


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = re.match(DURATION, str(value))
    if match is None or float(match[1]) == 0:
        raise ValueError(f"it is {value!r}: it must be a number above 0 and a unit, such as 500ms, 5s, 2m or 1h")
    try:
        return timedelta(**{_UNITS[match[2]]: float(match[1])})
    except OverflowError:
        raise ValueError(f"it is {value!r}: no clock counts that far; give seconds, minutes or hours") from None


def _cron(value: object) -> str:
    if len(str(value).split()) != 5 or not croniter.is_valid(str(value)):
        raise ValueError(f'it is {value!r}: it must be a cron expression of five fields, such as "0 1 * * *" (UTC)')
    return str(value)


def path_of(*known: str) -> AfterValidator:
    """A path whose names in braces are all among those that somebody fills."""

    def check(text: str) -> str:
        named = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
        unknown = sorted(named - set(known))
        if unknown:
            fillable = " and ".join(f"{{{name}}}" for name in known)
            raise ValueError(f"it is {text!r}: nothing fills {{{unknown[0]}}}; write {fillable} only")
        return text

    return AfterValidator(check)


Speed = Annotated[float | Literal["max"], BeforeValidator(_speed)]
"""Event seconds per wall second; `max` does not wait at all."""
TimeUnit = Literal["s", "ms", "us"]
Duration = Annotated[
    timedelta, BeforeValidator(_duration), WithJsonSchema({"type": "string", "pattern": DURATION, "examples": ["5s"]})
]
Cron = Annotated[str, BeforeValidator(_cron)]
ColumnName = Annotated[str, Field(pattern=COLUMN)]
TableName = Annotated[str, Field(pattern=TABLE)]
TopicName = Annotated[str, Field(pattern=TOPIC)]
