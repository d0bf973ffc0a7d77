"""The types of a spec's fields: speeds, durations, schedules, paths, and the names of columns, tables and topics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from string import Formatter
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from croniter import CroniterError, croniter
from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from rejeu.errors import ExtensionError, RequestError, brief, told
from rejeu.registry import Registry
from rejeu.spec.secrets import REFERENCE, hidden, refuse_open_address, without_references
from rejeu.spec.shapes import Shape

COLUMN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
TABLE = r"^([a-z][a-z0-9-]{4,28}[a-z0-9]\.)?[A-Za-z0-9_]+\.[A-Za-z0-9_-]+$"
TOPIC = r"^(?!goog)[A-Za-z][A-Za-z0-9_.~+%-]{2,254}$"
DURATION = r"^(\d+(?:\.\d+)?)(ms|s|m|h)$"

MAX: Literal["max"] = "max"
SLOWEST: Final = 0.001
"""An hour lasts six weeks. Beyond these two, instants of centuries leave every calendar."""
FASTEST: Final = 1_000_000.0
"""A year lasts half a minute."""

SHORTEST: Final = timedelta(milliseconds=1)
LONGEST: Final = timedelta(days=3650)
NOT_IN_FILES: Final = frozenset("'\"`\\")
"""What would end a text in SQL, in which paths of files stand."""
LONGEST_CRON: Final = 200

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
    match = re.fullmatch(DURATION, str(value))
    if match is None or float(match[1]) == 0:
        raise ValueError(f"it is {told(value)}: it must be a number above 0 and a unit, such as 500ms, 5s, 2m or 1h")
    try:
        duration = timedelta(**{_UNITS[match[2]]: float(match[1])})
    except OverflowError:
        duration = timedelta.max
    if not SHORTEST <= duration <= LONGEST:
        raise ValueError(f"it is {told(value)}: it must be from 1ms to {LONGEST.days * 24}h, which is ten years")
    return duration


def _in_words(duration: timedelta) -> str:
    """The duration as a spec writes it: a saved spec is read as a file's is."""
    for unit, name in reversed(_UNITS.items()):
        length = timedelta(**{name: 1})
        if not duration % length:
            return f"{duration // length}{unit}"
    return f"{duration / timedelta(milliseconds=1):.3f}ms"


def _cron(value: object) -> str:
    text = str(value)
    if len(text) > LONGEST_CRON or len(text.split()) != 5 or not croniter.is_valid(text):
        raise ValueError(f'it is {told(value)}: it must be a cron expression of five fields, such as "0 1 * * *" (UTC)')
    try:
        croniter(text, datetime(2024, 1, 1)).get_next()
    except CroniterError:
        raise ValueError(f"it is {told(value)}: there is no such day; name one that comes") from None
    return text


def check_file_path(text: str) -> None:
    """Raises ValueError where the path could not stand in SQL."""
    if NOT_IN_FILES & set(text) or not text.isprintable():
        raise ValueError(f"it is {told(text)}: a file's path must be without quotes, backslashes and line breaks")


def path_of(*known: str, secrets: bool = False) -> AfterValidator:
    """A path whose names in braces are all among those that somebody fills, and stand there alone.

    With `secrets` it may have references to some.
    """

    def check(text: str) -> str:
        fillable = " and ".join(f"{{{name}}}" for name in known)
        if "bucket" in known:
            check_file_path(text)
        try:
            named = filled(REFERENCE.sub("", text) if secrets else text)
        except ValueError as error:
            raise ValueError(f"it is {told(text)}: {error}; write {fillable} only") from None
        unknown = sorted(set(named) - set(known))
        if unknown:
            raise ValueError(f"it is {told(text)}: nothing fills {{{brief(unknown[0])}}}; write {fillable} only")
        return text

    return AfterValidator(check)


def filled(path: str) -> list[str]:
    """The names in braces, in their order. Raises ValueError where more than a name stands there."""
    named = []
    for _, name, form, conversion in Formatter().parse(path):
        if name is None:
            continue
        if form or conversion:
            raise ValueError(f"{{{brief(name)}}} has a form, and is filled as it is")
        named.append(name)
    return named


def _web_address(text: str) -> str:
    """An address that can be asked, without a secret in it; `{open_data}` stands for one."""
    refuse_open_address(text)
    bare = without_references(text)
    try:
        parts = urlsplit(bare.replace("{open_data}", "http://open-data", 1) if bare.startswith("{open_data}") else bare)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or not text.isprintable() or " " in text:
        shown = told(hidden(text))
        raise ValueError(f"it is {shown}: it must be a web address, https://HOST/PATH or http://HOST/PATH")
    return text


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
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(_in_words, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": DURATION, "examples": ["5s"]}),
]
Cron = Annotated[str, BeforeValidator(_cron)]
ColumnName = Annotated[
    str, Shape(COLUMN, "it must be a column, such as user or request.user: letters, digits and underscores")
]
TableName = Annotated[str, Shape(TABLE, "it must be a table, dataset.table or project.dataset.table")]
TopicName = Annotated[
    str,
    Shape(
        TOPIC, "it must be 3 to 255 letters, digits and -_.~+%, of which the first is a letter, and not begin with goog"
    ),
]
WebAddress = Annotated[str, AfterValidator(_web_address)]
