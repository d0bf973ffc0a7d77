"""From YAML files to specs, each good or bad on its own; what a spec is, is in `rejeu.spec.model`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from rejeu import extensions
from rejeu.errors import SpecError, explain
from rejeu.spec.model import StreamSpec

SUFFIXES = (".yaml", ".yml")
FOLDERS = "REJEU_STREAMS"
"""The variable that names folders of specs, apart by colons, in the place of the one beside the DAG file."""


@dataclass(frozen=True)
class Loaded:
    """One file of the streams folder: its spec, or why it has none."""

    file: Path
    name: str
    spec: StreamSpec | None
    error: SpecError | None = None


class _OnceLoader(yaml.SafeLoader):
    """YAML lets the last of two equal keys win, in silence; a spec must not."""


def _once(loader: _OnceLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if str(key.value) in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
        seen.add(str(key.value))
    return loader.construct_mapping(node, deep=True)


_OnceLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _once)


def spec_folders(dags: Path) -> list[Path]:
    """The folders of the specs that the DAG file of this folder builds."""
    named = os.environ.get(FOLDERS, "")
    return [Path(folder) for folder in named.split(os.pathsep) if folder] or [dags / "streams"]


def read_spec(file: Path) -> StreamSpec:
    """The spec in this file, which may name extensions beside it. Raises SpecError."""
    extensions.look_in(file.parent)
    try:
        document = yaml.load(file.read_text(encoding="utf-8"), _OnceLoader)
    except OSError as error:
        raise SpecError(str(file), "", f"it cannot be read ({error.strerror})", "Check the path.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2021-13-45 is a ValueError
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        raise SpecError(str(file), where, f"it is not YAML: {reason}", "Mend the line.") from None
    if not isinstance(document, dict):
        raise SpecError(
            str(file), "", f"it holds {type(document).__name__}, not a mapping", "Start with `stream: my_stream`."
        )
    try:
        return StreamSpec.model_validate(document)
    except ValidationError as error:
        raise _spec_error(file, error) from None


def load_specs(folders: Iterable[Path]) -> list[Loaded]:
    """Every spec of these folders, each good or bad on its own; two of one name are both refused."""
    return load_files(sorted(file for folder in folders for file in folder.glob("*") if file.suffix in SUFFIXES))


def load_files(files: Iterable[Path]) -> list[Loaded]:
    """The specs of these files, by the rules of `load_specs`; they may name extensions beside any of them."""
    found = list(files)
    for folder in dict.fromkeys(file.parent for file in found):
        extensions.look_in(folder)
    loaded = [_load(file) for file in found]
    owners: dict[str, list[Path]] = {}
    for each in loaded:
        if each.spec is not None:
            owners.setdefault(each.name, []).append(each.file)
    return [_refuse_twin(each, owners.get(each.name, [])) for each in loaded]


def _load(file: Path) -> Loaded:
    try:
        spec = read_spec(file)
    except SpecError as error:
        return Loaded(file, re.sub(r"\W", "_", file.stem), None, error)
    return Loaded(file, spec.stream, spec)


def _refuse_twin(loaded: Loaded, owners: list[Path]) -> Loaded:
    others = [file for file in owners if file != loaded.file]
    if not others or loaded.spec is None:
        return loaded
    reason = f"{loaded.name!r} is also the stream of {others[0]}"
    error = SpecError(str(loaded.file), "stream", reason, "Give each stream a name of its own.")
    return Loaded(loaded.file, re.sub(r"\W", "_", loaded.file.stem), None, error)


def _spec_error(file: Path, error: ValidationError) -> SpecError:
    details = error.errors()
    first: Any = details[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        reason, remedy = "there is no such field", f"Fields here: {', '.join(_siblings(first['loc']))}."
    elif first["type"] == "missing":
        reason, remedy = "it is missing", "Add it; `rejeu schema` describes every field."
    else:
        reason, remedy = explain(first), "`rejeu schema` describes every field."
    more = f" ({len(details) - 1} more after this one)" if len(details) > 1 else ""
    return SpecError(str(file), field, reason + more, remedy)


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    """The fields beside the one at this location, found as pydantic finds it: from model to model."""
    model: type[BaseModel] = StreamSpec
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        model = next(_models(field.annotation), model) if field else model
    return list(model.model_fields)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """The models that an annotation names, within unions and containers too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)
