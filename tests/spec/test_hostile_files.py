"""What one spec's file holds reaches no other stream: no exception, no second, no gigabyte."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from rejeu import extensions
from rejeu.errors import SpecError
from rejeu.spec.files import load_specs, read_spec

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_garbage")]

GOOD: Final[dict[str, Any]] = {
    "stream": "clicks",
    "event_time": "at",
    "live": {"topic": "clicks", "table": "web.clicks"},
    "replay": {"source": {"table": "web.history"}},
}
MOST_SECONDS: Final = 1.0
MOST_KILOBYTES: Final = 50_000
LAUGHS: Final = "a0: &a0 [lol, lol]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]\n" for i in range(1, 15))
"""Of 500 bytes, and of 9 ** 14 words once it is printed."""

HOSTILE: Final[dict[str, str]] = {
    "a truth that is none": "stream: !!bool maybe",
    "a number that is empty": 'stream: !!int ""',
    "a time that is none": "stream: !!timestamp x",
    "a number in parts of 60 beyond every float": "stream: 1" + ":1" * 15_000 + ".0",
    "a number that is too long to be printed": "stream: 0x" + "f" * 30_000,
    "aliases within aliases": LAUGHS,
    "a merge within merges": "a: &a {x: 1}\nb0: &b0 {<<: [*a, *a]}\n"
    + "".join(f"b{i}: &b{i} {{<<: [{f'*b{i - 1},' * 9}]}}\n" for i in range(1, 12)),
    "a key of aliases": LAUGHS + "? [*a14, *a14]\n: 1\n",
    "an alias of itself": "stream: &a [*a]",
    "a long text by many aliases": "a: &a " + "x" * 20_000 + "\nb: [" + "*a, " * 1_900 + "]",
    "a list that is deep": "stream: " + "[" * 30_000,
    "a list that is deep by aliases": "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 600)),
    "mappings that are deep": "".join(" " * depth + "a:\n" for depth in range(240)),
    "a long list": "stream: [" + "a," * 30_000 + "]",
    "a long file": "# " + "x" * 5_000_000,
    "a tag that nobody knows": f"stream: !<{'a' * 30_000}> x",
    "half a character": 'stream: {"\\ud800": 1}',
    "an object of Python": "stream: !!python/object/apply:os.system [exit]",
}


@pytest.fixture
def streams(tmp_path: Path) -> Path:
    folder = tmp_path / "streams"
    folder.mkdir()
    (folder / "good.yaml").write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    return folder


def _most_kilobytes() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_file_is_refused_soon_and_in_few_words(hostile: str, streams: Path) -> None:
    (streams / "bad.yaml").write_text(HOSTILE[hostile], encoding="utf-8")
    before, begun = _most_kilobytes(), time.process_time()
    bad, good = load_specs([streams])
    seconds, kilobytes = time.process_time() - begun, _most_kilobytes() - before
    assert (good.name, good.error, bad.spec) == ("clicks", None, None)
    assert len(str(bad.error)) < 1_000
    assert kilobytes < MOST_KILOBYTES
    assert seconds < MOST_SECONDS


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_field_of_a_reader_is_refused_too(hostile: str, streams: Path) -> None:
    """Where any JSON may stand."""
    (streams / "bad.yaml").write_text(
        HOSTILE[hostile]
        + "\nevent_time: at\nlive: {topic: clicks, table: web.clicks}\nreplay: {source: {reader: none, options: 1}}",
        encoding="utf-8",
    )
    bad, good = load_specs([streams])
    assert (good.error, bad.spec) == (None, None)


def test_a_long_file_with_a_good_spec_is_refused_by_its_length(streams: Path) -> None:
    (streams / "bad.yaml").write_text(yaml.safe_dump(GOOD | {"description": "x" * 100_000}), encoding="utf-8")
    with pytest.raises(SpecError, match="it is longer than 65,536 bytes: a spec is short"):
        read_spec(streams / "bad.yaml")


def test_what_is_no_file_is_refused_and_not_waited_for(streams: Path) -> None:
    os.mkfifo(streams / "pipe.yaml")
    (streams / "folder.yaml").mkdir()
    said = {loaded.file.name: str(loaded.error) for loaded in load_specs([streams]) if loaded.error}
    assert set(said) == {"pipe.yaml", "folder.yaml"}
    assert all("it is no file" in each for each in said.values())


def test_an_alias_that_stands_for_a_little_is_fine(streams: Path) -> None:
    text = "stream: taps\nevent_time: at\nkey: &key [user]\nlive: {topic: taps, table: web.taps}\n"
    text += "replay: {source: {table: web.history}, ordering_key: *key}\n"
    (streams / "taps.yaml").write_text(text, encoding="utf-8")
    assert read_spec(streams / "taps.yaml").ordering_key == ("user",)


def test_invalid_files_have_names_that_airflow_takes_and_that_differ(streams: Path) -> None:
    stems = ["é" * 100, "x" * 245, "a b", "a-b", "a_b", "\udcff", "rejeu.patrol"]
    for stem in stems:
        (streams / f"{stem}.yaml").write_text("stream: [", encoding="utf-8")
    (streams / "a_b.yml").write_text("stream: [", encoding="utf-8")
    names = [loaded.name for loaded in load_specs([streams]) if loaded.error]
    assert len(set(names)) == len(names) == len(stems) + 1
    for name in names:
        assert name.isascii()
        assert name.replace("_", "a").isalnum()
        assert len(name) <= 100


def test_the_name_of_an_invalid_file_is_its_own_where_that_can_be(streams: Path) -> None:
    (streams / "my-feed.yaml").write_text("stream: [", encoding="utf-8")
    assert [loaded.name for loaded in load_specs([streams]) if loaded.error] == ["my_feed"]


def test_a_module_beside_the_specs_that_exits_breaks_only_who_names_it(
    streams: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extensions, "__path__", [])
    (streams / "exits_hostile.py").write_text("PIPELINE = exit(3)\n", encoding="utf-8")
    (streams / "bad.yaml").write_text(
        yaml.safe_dump(GOOD | {"stream": "bad", "live": GOOD["live"] | {"pipeline": "exits_hostile"}}), encoding="utf-8"
    )
    bad, good = load_specs([streams])
    assert good.error is None
    assert "cannot be imported (SystemExit: 3)" in str(bad.error)
