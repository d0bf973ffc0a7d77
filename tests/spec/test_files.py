"""Folders of specs: each file good or bad on its own, and no two streams of one name."""

from pathlib import Path

import pytest
import yaml

from rejeu.spec.files import Loaded, load_specs

SMALLEST = {
    "stream": "clicks",
    "event_time": "at",
    "live": {"topic": "clicks", "table": "web.clicks"},
    "replay": {"source": {"table": "web.history"}},
}


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
    assert _by_file(load_specs([streams])) == {"a.yaml": "line 1, column 10", "b.yaml": "ok", "c.yaml": "event_time"}


def test_two_streams_of_one_name_are_both_refused_and_each_names_the_other(streams: Path) -> None:
    one, other = _write(streams / "a.yaml", SMALLEST), _write(streams / "b.yml", SMALLEST)
    found = load_specs([streams])
    assert [str(loaded.error) for loaded in found] == [
        f"{one}: stream: 'clicks' is also the stream of {other}. Give each stream a name of its own.",
        f"{other}: stream: 'clicks' is also the stream of {one}. Give each stream a name of its own.",
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
    assert _by_file(load_specs([streams])) == {"clicks.yaml": "line 1, column 10", "new_clicks.yaml": "ok"}


def test_only_yaml_files_are_specs(streams: Path) -> None:
    for name in ("notes.md", "stream.schema.json", "a.yaml.bak"):
        _write(streams / name, "stream: [")
    _write(streams / "clicks.yml", SMALLEST)
    assert _by_file(load_specs([streams])) == {"clicks.yml": "ok"}


def test_a_folder_that_is_not_there_holds_no_specs(tmp_path: Path) -> None:
    assert load_specs([tmp_path / "none"]) == []
