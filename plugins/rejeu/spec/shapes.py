"""Texts of a shape: checked by a pattern, which editors get with the JSON Schema, and told to a person in words."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from rejeu.errors import told

HALF: Final = re.compile("[\ud800-\udfff]")
"""What "\\ud800" in quotes is, or what bytes that are no UTF-8 become: no encoding has it, and no database takes it."""


def from_json(value: object, example: str) -> object:
    """What a flag's text says, which is JSON; anything but text stays as it is. Raises ValueError."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError(f"it is {told(value)}: it must be JSON, such as {example}") from None


@dataclass(frozen=True)
class Shape:
    """A text that fits the pattern, which begins with ^ and ends with $; `rule` says so in words, from "it must be"."""

    pattern: str
    rule: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {"pattern": self.pattern}

    def _check(self, text: str) -> str:
        if re.fullmatch(self.pattern, text) is None:
            raise ValueError(f"it is {told(text)}: {self.rule}")
        return text


@dataclass(frozen=True)
class Words:
    """A text for people, within what Airflow's database takes; on one `line`, where it is a word for itself."""

    most: int
    line: bool = True

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, text: str) -> str:
        if len(text) > self.most or (self.line and not text):
            least = 1 if self.line else 0
            raise ValueError(f"it is {told(text)}: it must have {least} to {self.most:,} characters")
        if not all(each.isprintable() or (each in "\n\t" and not self.line) for each in text):
            raise ValueError(f"it is {told(text)}: it must have characters that can be seen, and no others")
        return text
