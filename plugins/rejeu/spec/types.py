"""The types of a spec's fields: speeds, durations, schedules, paths, and the names of columns, tables and topics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from string import Formatter
from typing import Annotated, Any, Final, Literal

from croniter import croniter
from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from rejeu.errors import ExtensionError, RequestError, brief
from rejeu.registry import Registry

COLUMN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
TABLE = r"^([a-z][a-z0-9-]{4,28}[a-z0-9]\.)?[A-Za-z0-9_]+\.[A-Za-z0-9_-]+$"
TOPIC = r"^[A-Za-z][A-Za-z0-9_.~+%-]{2,254}$"
DURATION = r"^(\d+(?:\.\d+)?)(ms|s|m|h)$"

MAX: Literal["max"] = "max"
SLOWEST: Final = 0.001
"""An hour lasts six weeks. Beyond these two, instants of centuries leave every calendar."""
FASTEST: Final = 1_000_000.0
"""A year lasts half a minute."""

_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours"}


def _speed(value: object) -> float | Literal["max"]:
    if value == MAX:
        return MAX
    try:
        speed = float(str(value))
    except ValueError:
        speed = 0.0
    if not SLOWEST <= speed <= FASTEST:
        rule = f'it must be a number from {SLOWEST:g} to {FASTEST:,.0f}, or "{MAX}" for no waiting'
        raise ValueError(f"it is {brief(str(value))}: {rule}")
    return speed


def _nearest(value: object) -> object:
    return min(max(value, SLOWEST), FASTEST) if isinstance(value, (int, float)) and value > 0 else value


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


@dataclass(frozen=True)
class NameIn:
    """A text that names what a registry has, and can be imported; the JSON Schema lists all that there are."""

    registry: Registry[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {"enum": list(self.registry)}

    def _check(self, name: str) -> str:
        try:
            self.registry.find(name, "it")
        except ExtensionError as error:
            raise ValueError(str(error)) from None
        return name


class OneOrList:
    """In the JSON Schema: a list of different values, one at least, or one by itself."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        one = handler(schema)["items"]
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}]}


Speed = Annotated[float | Literal["max"], BeforeValidator(_speed)]
"""Event seconds per wall second; `max` does not wait at all."""
SavedSpeed = Annotated[Speed, BeforeValidator(_nearest)]
"""A speed that was saved; one beyond the bounds, which earlier versions took, is brought to the nearest of them."""
TimeUnit = Literal["s", "ms", "us"]
Duration = Annotated[
    timedelta, BeforeValidator(_duration), WithJsonSchema({"type": "string", "pattern": DURATION, "examples": ["5s"]})
]
Cron = Annotated[str, BeforeValidator(_cron)]
ColumnName = Annotated[str, Field(pattern=COLUMN)]
TableName = Annotated[str, Field(pattern=TABLE)]
TopicName = Annotated[str, Field(pattern=TOPIC)]
