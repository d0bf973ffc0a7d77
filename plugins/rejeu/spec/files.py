"""From YAML files to specs, each good or bad on its own; what a spec is, is in `rejeu.spec.model`."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from rejeu import extensions
from rejeu.errors import SpecError, brief, explain
from rejeu.spec.document import read_document
from rejeu.spec.model import StreamSpec
from rejeu.spec.sharing import Clash, clashes, misnamed

SUFFIXES = (".yaml", ".yml")
FOLDERS = "REJEU_STREAMS"
"""The variable that names folders of specs, apart by colons, in the place of the one beside the DAG file."""
NAME_LENGTH: Final = 90
"""Of the name that a file without a spec has, before the mark that tells it from another."""
ALIKE: Final = 0.65
"""How much two words must have in common for one to be the other, misspelt: `colour` is no `cluster`."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """One file of the streams folder: its spec, or why it has none."""

    file: Path
    name: str
    spec: StreamSpec | None
    error: SpecError | None = None


def spec_folders(dags: Path) -> list[Path]:
    """The folders of the specs that the DAG file of this folder builds."""
    named = os.environ.get(FOLDERS, "")
    return [Path(folder) for folder in named.split(os.pathsep) if folder] or [dags / "streams"]


def read_spec(file: Path) -> StreamSpec:
    """The spec in this file, which may name extensions beside it. Raises SpecError."""
    extensions.look_in(file.parent)
    document = read_document(file)
    try:
        spec = StreamSpec.model_validate(document)
    except ValidationError as error:
        raise _spec_error(file, error) from None
    if (clash := misnamed(spec)) is not None:
        raise SpecError(str(file), clash.field, clash.reason, "Name another table.")
    return spec


def load_specs(folders: Iterable[Path]) -> list[Loaded]:
    """Every spec of these folders, each good or bad on its own; two that share what must be their own are refused."""
    return load_files(sorted(file for folder in folders for file in folder.glob("*") if file.suffix in SUFFIXES))


def load_stream(folders: Sequence[Path], name: str) -> list[Loaded]:
    """What these folders hold by this name: out of the file of that name alone, where it holds that very stream.

    Whether the stream shares anything with another one is not asked then: who lists all specs has asked that.
    """
    look_beside(folders)
    files = [folder / f"{name}{suffix}" for folder in folders for suffix in SUFFIXES]
    own = [loaded for file in files if file.is_file() and (loaded := _load(file)).spec and loaded.name == name]
    return own if len(own) == 1 else [each for each in load_specs(folders) if each.name == name]


def look_beside(folders: Iterable[Path]) -> None:
    """Have extensions found that stand beside the specs of any of these folders."""
    for folder in folders:
        extensions.look_in(folder)


def load_files(files: Iterable[Path]) -> list[Loaded]:
    """The specs of these files, by the rules of `load_specs`; they may name extensions beside any of them."""
    found = list(files)
    look_beside(dict.fromkeys(file.parent for file in found))
    loaded = [_load(file) for file in found]
    owners: dict[str, list[Path]] = {}
    for each in loaded:
        if each.spec is not None:
            owners.setdefault(each.name, []).append(each.file)
    return _names_apart(_refuse_clashes([_refuse_twin(each, owners.get(each.name, [])) for each in loaded]))


def _load(file: Path) -> Loaded:
    try:
        spec = read_spec(file)
    except SpecError as error:
        return _invalid(file, error)
    except Exception as error:  # whatever one file makes us do must not take the other streams along
        log.exception("%s: it cannot be judged", file)
        reason = f"it cannot be judged: {brief(repr(error))}"
        return _invalid(file, SpecError(str(file), "", reason, "Leave out what is unusual in it, and report this."))
    return Loaded(file, spec.stream, spec)


def _invalid(file: Path, error: SpecError) -> Loaded:
    """The file by its own name, in letters that Airflow takes."""
    return Loaded(file, re.sub(r"[^A-Za-z0-9_]", "_", file.stem)[:NAME_LENGTH], None, error)


def _names_apart(loaded: list[Loaded]) -> list[Loaded]:
    """Two files without a spec, such as a-b.yaml and a_b.yml, would be called the same: each gets a mark of its own."""
    named = Counter(each.name for each in loaded if each.spec is None)
    return [
        replace(each, name=f"{each.name}_{_mark(each.file)}") if each.spec is None and named[each.name] > 1 else each
        for each in loaded
    ]


def _mark(file: Path) -> str:
    return hashlib.blake2b(os.fsencode(file), digest_size=4).hexdigest()


def _refuse_twin(loaded: Loaded, owners: list[Path]) -> Loaded:
    others = [file for file in owners if file != loaded.file]
    if not others or loaded.spec is None:
        return loaded
    reason = f"{loaded.name!r} is also the stream of {others[0]}"
    error = SpecError(str(loaded.file), "stream", reason, "Give each stream a name of its own.")
    return _invalid(loaded.file, error)


def _refuse_clashes(loaded: list[Loaded]) -> list[Loaded]:
    """Two that would write, publish or be called the same are both refused, for nobody knows whose it is."""
    files = {each.name: each.file for each in loaded if each.spec is not None}
    found = clashes([each.spec for each in loaded if each.spec is not None])
    return [
        each if each.spec is None or each.name not in found else _refused(each, found[each.name], files)
        for each in loaded
    ]


def _refused(loaded: Loaded, shared: list[tuple[Clash, str]], files: Mapping[str, Path]) -> Loaded:
    (clash, other), *others = shared
    more = f" ({len(others)} more after this one)" if others else ""
    reason = f"{clash.reason}, in {files[other]}{more}"
    return _invalid(loaded.file, SpecError(str(loaded.file), clash.field, reason, "Give each stream one of its own."))


def _spec_error(file: Path, error: ValidationError) -> SpecError:
    """The first thing that is wrong; a field that there is not comes before the one that is missing for it."""
    details = error.errors()
    first: Any = next((each for each in details if each["type"] == "extra_forbidden"), details[0])
    field = brief(".".join(map(str, first["loc"])))
    if first["type"] == "extra_forbidden":
        reason, remedy = "there is no such field", _fields_here(str(first["loc"][-1]), _siblings(first["loc"]))
    elif first["type"] == "missing":
        reason, remedy = "it is missing", "Add it; `rejeu schema` describes every field."
    else:
        reason, remedy = explain(first), "`rejeu schema` describes every field."
    more = f" ({len(details) - 1} more after this one)" if len(details) > 1 else ""
    return SpecError(str(file), field, reason + more, remedy)


def _fields_here(written: str, fields: list[str]) -> str:
    """The field that was meant, where one is written alike, and all that there are."""
    meant = get_close_matches(written[:100].casefold(), fields, n=1, cutoff=ALIKE)
    return f"{f'Is {meant[0]} meant? ' if meant else ''}Fields here: {', '.join(fields)}."


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
