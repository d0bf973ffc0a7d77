"""Folders of specs: each file good or bad on its own, and no two streams of one name."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from rejeu.spec.files import Loaded, load_specs
from rejeu.spec.model import StreamSpec

SMALLEST = {
    "stream": "clicks",
    "event_time": "at",
    "live": {"topic": "clicks", "table": "web.clicks"},
    "replay": {"source": {"table": "web.history"}},
}
FULL: dict[str, Any] = SMALLEST | {"batch": {"files": "gs://{bucket}/{partition}/*", "table": "web.days"}}
"""No part that has a field that must be there is missing."""


@pytest.fixture
def streams(tmp_path: Path) -> Path:
    folder = tmp_path / "streams"
    folder.mkdir()
    return folder


def _write(file: Path, document: object) -> Path:
    file.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
    return file


def _by_file(found: list[Loaded]) -> dict[str, str]:
    return {loaded.file.name: "ok" if loaded.error is None else loaded.error.field or "whole" for loaded in found}


def test_a_bad_spec_breaks_itself_alone(streams: Path) -> None:
    _write(streams / "a.yaml", "stream: [")
    _write(streams / "b.yaml", SMALLEST)
    _write(streams / "c.yaml", SMALLEST | {"stream": "other", "event_time": 5})
    assert _by_file(load_specs([streams])) == {"a.yaml": "line 2, column 1", "b.yaml": "ok", "c.yaml": "event_time"}


def test_two_streams_of_one_name_are_both_refused_and_each_names_the_other(streams: Path) -> None:
    one, other = _write(streams / "a.yaml", SMALLEST), _write(streams / "b.yml", SMALLEST)
    found = load_specs([streams])
    assert [str(loaded.error) for loaded in found] == [
        f"stream: 'clicks' is also the stream of {other}. Give each stream a name of its own. ({one})",
        f"stream: 'clicks' is also the stream of {one}. Give each stream a name of its own. ({other})",
    ]
    assert [loaded.name for loaded in found] == ["a", "b"]


def test_streams_of_one_name_in_two_folders_are_refused_too(streams: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    _write(streams / "a.yaml", SMALLEST)
    _write(tmp_path / "more" / "b.yaml", SMALLEST)
    assert _by_file(load_specs([streams, tmp_path / "more"])) == {"a.yaml": "stream", "b.yaml": "stream"}


def test_a_broken_file_takes_no_name_from_a_good_one(streams: Path) -> None:
    _write(streams / "clicks.yaml", "stream: [")
    _write(streams / "new_clicks.yaml", SMALLEST)
    assert _by_file(load_specs([streams])) == {"clicks.yaml": "line 2, column 1", "new_clicks.yaml": "ok"}


def test_only_yaml_files_are_specs(streams: Path) -> None:
    for name in ("notes.md", "stream.schema.json", "a.yaml.bak"):
        _write(streams / name, "stream: [")
    _write(streams / "clicks.yml", SMALLEST)
    assert _by_file(load_specs([streams])) == {"clicks.yml": "ok"}


def test_a_folder_that_is_not_there_holds_no_specs(tmp_path: Path) -> None:
    assert load_specs([tmp_path / "none"]) == []


def _parts(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    """Every part of a spec: the names that lead there, and its model."""
    yield path, model
    for name, field in model.model_fields.items():
        for each in (field.annotation, *get_args(field.annotation)):
            if isinstance(each, type) and issubclass(each, BaseModel):
                yield from _parts(each, (*path, name))


PARTS = dict(_parts(StreamSpec))


def test_the_parts_of_a_spec_are_nested() -> None:
    assert {("live", "workers"), ("live", "window"), ("replay", "source"), ("watchdog",)} <= PARTS.keys()


@pytest.mark.parametrize("path", PARTS, ids=lambda path: ".".join(path) or "spec")
def test_a_misspelt_field_is_answered_with_the_fields_of_its_own_part(streams: Path, path: tuple[str, ...]) -> None:
    document = deepcopy(FULL)
    part: Any = document
    for name in path:
        part = part.setdefault(name, {})
    part["misspelt"] = 1
    (found,) = load_specs([_write(streams / "a.yaml", document).parent])
    assert found.error is not None
    assert found.error.field == ".".join((*path, "misspelt"))
    assert found.error.remedy == f"Fields here: {', '.join(PARTS[path].model_fields)}."


@pytest.mark.parametrize("path", PARTS, ids=lambda path: ".".join(path) or "spec")
def test_a_misspelt_field_is_told_with_the_one_that_was_meant(streams: Path, path: tuple[str, ...]) -> None:
    for name in PARTS[path].model_fields:
        document = deepcopy(FULL)
        part: Any = document
        for each in path:
            part = part.setdefault(each, {})
        misspelt = name + name[-1]
        part[misspelt] = 1
        (found,) = load_specs([_write(streams / "a.yaml", document).parent])
        assert found.error is not None
        assert found.error.field == ".".join((*path, misspelt))
        assert found.error.remedy.startswith(f"Is {name} meant? Fields here: ")


def _patterns(schema: Any) -> Iterator[str]:
    """Every pattern of a JSON Schema."""
    for name, each in schema.items() if isinstance(schema, dict) else enumerate(schema):
        if name == "pattern" and isinstance(each, str):
            yield each
        elif name == "patternProperties":
            yield from each
        if isinstance(each, (dict, list)):
            yield from _patterns(each)


def test_no_refusal_shows_a_pattern(streams: Path) -> None:
    patterns = set(_patterns(StreamSpec.model_json_schema()))
    assert len(patterns) > 5
    wrong = {"stream": "!", "live": {"topic": "!", "table": "!", "workers": {"machine": "!", "labels": {"!": "!"}}}}
    wrong["live"]["workers"]["service_account"] = "!"  # type: ignore[index]
    for field in ("event_time", "key", "watchdog"):
        wrong[field] = {"event_time": "!", "key": ["!"], "watchdog": {"silence": "!"}}[field]
    with pytest.raises(ValidationError) as caught:
        StreamSpec.model_validate(FULL | wrong)
    said = str([error["msg"] for error in caught.value.errors()])
    assert caught.value.error_count() >= 8
    assert [pattern for pattern in patterns if pattern in said or "pattern" in said] == []
