"""The page about a spec's fields, from the JSON Schema of `StreamSpec`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from docs.generate.markdown import code, page, table
from rejeu.spec.model import StreamSpec
from rejeu.spec.names import STREAM_NAME
from rejeu.spec.types import COLUMN, TABLE, TOPIC

HEAD: Final = ("field", "takes", "default", "what it says")
PATTERNS: Final = {COLUMN: "a column", TABLE: "a table", TOPIC: "a topic's id", STREAM_NAME: "a name"}
"""What text of each form is."""
ROLES: Final = re.compile(r"^#/\$defs/")
Schema = Mapping[str, Any]


def render() -> str:
    """The page: the spec itself, then each part of it where it is first named."""
    schema = StreamSpec.model_json_schema()
    parts = [_part("The spec", schema, "")]
    parts += [_part(path, part, path) for path, part in _parts(schema, schema["$defs"], "")]
    return page("Fields of a spec", INTRODUCTION, *parts)


INTRODUCTION: Final = """
A spec is one YAML file in `dags/streams/`. `rejeu validate` checks it; `dags/streams/stream.schema.json` has the same
rules for editors. A field that is not listed here is refused, with the fields that there are.

A **duration** is a number and a unit: `500ms`, `5s`, `2m`, `1h`. A **table** is `dataset.table` in the target's
project, or `project.dataset.table`. A **schedule** is a cron expression, in UTC. A field in **bold** must be there.
"""


def _parts(schema: Schema, known: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """The parts below this one, each with its path in the file."""
    for name, field in schema["properties"].items():
        part = _named(field)
        if part and "properties" in known[part]:
            below = f"{path}.{name}".lstrip(".")
            yield below, known[part]
            yield from _parts(known[part], known, below)


def _named(field: Schema) -> str | None:
    """The name of the definition that a field points to."""
    choices = [field, *field.get("allOf", ()), *field.get("anyOf", ())]
    return next((ROLES.sub("", each["$ref"]) for each in choices if "$ref" in each), None)


def _part(title: str, schema: Schema, path: str) -> str:
    known = StreamSpec.model_json_schema()["$defs"]
    required = schema.get("required", ())
    rows = []
    for name, field in schema["properties"].items():
        shown = f"**`{name}`**" if name in required else f"`{name}`"
        rows.append((shown, _takes(field, known, f"{path}.{name}".lstrip(".")), _default(field), _what(field, known)))
    heading = f"## {title}" if not path else f"## `{title}`"
    return f"{heading}\n\n{schema.get('description', '')}\n\n{table(HEAD, rows)}"


def _takes(field: Schema, known: Schema, path: str) -> str:
    """What may be written there, in words."""
    if "anyOf" in field:
        kinds = [_takes(each, known, path) for each in field["anyOf"]]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "nothing"))
    part = _named(field)
    if part and "properties" in known[part]:
        return f"[a part of its own](#{re.sub(r'[^a-z_]', '', path)})"
    if part:
        return _takes(known[part], known, path)
    if "enum" in field:
        return ", ".join(code(value) for value in field["enum"])
    if "const" in field:
        return code(field["const"])
    return _kind(field, known, path)


def _kind(field: Schema, known: Schema, path: str) -> str:
    kind = field.get("type")
    if kind == "array":
        return f"a list of: {_takes(field['items'], known, path)}"
    if kind == "string":
        return "a duration" if field.get("examples") == ["5s"] else PATTERNS.get(field.get("pattern", ""), "text")
    if kind == "integer":
        return f"a whole number, {_bounds(field)}".rstrip(", ")
    words = {"number": "a number", "boolean": "`true` or `false`", "object": "names with values", "null": "nothing"}
    return words.get(str(kind), "anything")


def _bounds(field: Schema) -> str:
    low, high = field.get("minimum"), field.get("maximum")
    return f"{low} to {high}" if low is not None and high is not None else ""


def _default(field: Schema) -> str:
    value = field.get("default")
    if value in (None, "", [], {}) or isinstance(value, dict):
        return ""
    if isinstance(value, str) and re.fullmatch(r"P.*", value):
        return code(_duration(value))
    return code(value if isinstance(value, str) else json.dumps(value))


def _duration(iso: str) -> str:
    """A duration as a spec writes it, from the schema's `PT5S`."""
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?", iso)
    assert found, iso
    return " ".join(f"{value}{unit}" for value, unit in zip(found.groups(), "dhms", strict=True) if value)


def _what(field: Schema, known: Schema) -> str:
    part = _named(field)
    return field.get("description") or (known[part].get("description", "") if part else "")
