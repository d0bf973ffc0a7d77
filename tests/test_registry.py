"""What can be added to Rejeu is found by name, wherever it stands, and one that is broken breaks itself alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rejeu import extensions, registry
from rejeu.errors import ExtensionError
from rejeu.registry import Registry
from rejeu.spec.pipelines import PIPELINES, Pipeline
from rejeu.testing import registered

WRITES = "from rejeu.spec.pipelines import Pipeline\nPIPELINE = Pipeline(module=f'{__name__}.transform', columns=())\n"


@dataclass
class Distribution:
    """Brings nothing but entry points."""

    name: str
    text: str

    def read_text(self, file: str) -> str | None:
        return self.text if file == "entry_points.txt" else None

    @property
    def entry_points(self) -> list[registry.importlib.metadata.EntryPoint]:
        return registry.importlib.metadata.EntryPoints._from_text_for(self.text, None)  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Puts a module beside the specs."""
    monkeypatch.setattr(extensions, "__path__", [])

    def put(name: str, text: str) -> Path:
        file = tmp_path / "streams" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        extensions.look_in(tmp_path / "streams")
        return file

    yield put
    for name in [name for name in sys.modules if name.startswith("rejeu.extensions.")]:
        del sys.modules[name]


@pytest.fixture
def pipelines() -> Registry[Pipeline]:
    """The registry of pipelines as a process has it that has just begun."""
    return Registry("pipeline", Pipeline, "beam_jobs.pipelines")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Lets distributions be installed."""

    def install(*distributions: Distribution) -> None:
        registry._entry_points.cache_clear()
        monkeypatch.setattr("importlib.metadata.distributions", lambda: distributions)

    yield install
    registry._entry_points.cache_clear()


# Where they stand


def test_rejeus_own_are_there(pipelines: Registry[Pipeline]) -> None:
    own = ["clicks", "occupancy", "passthrough", "rates", "sensor_means", "stations"]
    assert list(pipelines) == own
    assert [pipelines[name].module for name in own] == [f"beam_jobs.pipelines.{name}.transform" for name in own]


@pytest.mark.parametrize("file", ["mine.py", "mine/__init__.py"])
def test_a_module_beside_the_specs_is_one_by_its_own_name(
    pipelines: Registry[Pipeline], beside: Callable[[str, str], Path], tmp_path: Path, file: str
) -> None:
    (tmp_path / "streams" / "mine").mkdir(parents=True)
    beside(file, WRITES)
    assert "mine" in pipelines
    assert pipelines.find("mine", "it").module == "rejeu.extensions.mine.transform"


def test_an_entry_point_of_a_distribution_is_one(pipelines: Registry[Pipeline], installed: Callable[..., None]) -> None:
    installed(
        Distribution("others", "[console_scripts]\nmine = beam_jobs.pipelines.rates:PIPELINE\n"),
        Distribution("feeds", "[rejeu.pipelines]\nmine = beam_jobs.pipelines.rates:PIPELINE\n"),
    )
    assert pipelines["mine"] is PIPELINES["rates"]


def test_a_module_without_a_record_is_none(pipelines: Registry[Pipeline], beside: Callable[[str, str], Path]) -> None:
    beside("helpers.py", "from rejeu.spec.pipelines import Pipeline\n# PIPELINE = nothing\ndef mean(): PIPELINE = 1\n")
    assert "helpers" not in pipelines


def test_a_program_of_ours_is_none(pipelines: Registry[Pipeline]) -> None:
    for name in ("batch", "stream", "program", "transforms", "rates.transform", "..batch"):
        with pytest.raises(ExtensionError, match="it must be one of clicks, "):
            pipelines.find(name, "it")


def test_what_stands_beside_the_specs_hides_no_module_of_its_name(beside: Callable[[str, str], Path]) -> None:
    beside("json.py", WRITES)
    assert (
        "dumps"
        in subprocess.run(
            [sys.executable, "-c", "import rejeu.extensions, json; print(dir(json))"],
            env=extensions.environment(),
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    )


# What is wrong with one, and that the others stand


def test_one_that_cannot_be_imported_says_where_and_why_and_breaks_no_other(
    pipelines: Registry[Pipeline], beside: Callable[[str, str], Path]
) -> None:
    file = beside("mine.py", f"import no_such_library\n{WRITES}")
    assert "mine" in list(pipelines)
    assert pipelines["rates"].columns
    reason = f"--pipeline is 'mine': {file} cannot be imported .*'no_such_library'.*; mend it, or install what it needs"
    with pytest.raises(ExtensionError, match=reason):
        pipelines.find("mine", "--pipeline")


def test_one_of_another_kind_is_refused_with_what_it_must_be(
    pipelines: Registry[Pipeline], beside: Callable[[str, str], Path]
) -> None:
    beside("mine.py", "PIPELINE = 'mine'\n")
    with pytest.raises(ExtensionError, match="has 'mine' for PIPELINE: it must be a Pipeline"):
        pipelines.find("mine", "it")


def test_two_of_one_name_are_refused_with_both_places_and_a_name_alone_is_enough_to_see_it(
    pipelines: Registry[Pipeline], beside: Callable[[str, str], Path], installed: Callable[..., None]
) -> None:
    file = beside("rates.py", WRITES)
    installed(Distribution("feeds", "[rejeu.pipelines]\nclicks = feeds.clicks:PIPELINE\n"))
    with pytest.raises(ExtensionError, match=rf"two of this name, .*pipelines/rates/__init__\.py and {file}; rename"):
        pipelines.find("rates", "it")
    with pytest.raises(ExtensionError, match=r"and feeds\.clicks:PIPELINE of the distribution feeds; rename"):
        pipelines.find("clicks", "it")
    assert pipelines["stations"].views


# What it costs, and for whom it lasts


def test_nothing_is_imported_before_it_is_asked_for(
    pipelines: Registry[Pipeline], beside: Callable[[str, str], Path]
) -> None:
    beside("mine.py", f"raise SystemExit\n{WRITES}")
    assert "mine" in list(pipelines)
    assert "rejeu.extensions.mine" not in sys.modules


def test_a_folder_that_comes_later_is_looked_in_too(
    pipelines: Registry[Pipeline], beside: Callable[[str, str], Path]
) -> None:
    assert "mine" not in pipelines
    beside("mine.py", WRITES)
    assert "mine" in pipelines


def test_a_process_that_is_told_the_folders_finds_the_same(beside: Callable[[str, str], Path]) -> None:
    beside("mine.py", WRITES)
    look = "from rejeu.spec.pipelines import PIPELINES; print(PIPELINES['mine'].module)"
    command = [sys.executable, "-c", look]
    found = subprocess.run(command, env=extensions.environment(), capture_output=True, text=True, check=False)
    assert found.stdout == "rejeu.extensions.mine.transform\n"


def test_a_record_of_a_tests_own_is_there_while_the_test_wants_it(pipelines: Registry[Pipeline]) -> None:
    mine = Pipeline("nowhere")
    with registered(pipelines, "mine", mine):
        assert pipelines.find("mine", "it") is mine
    assert "mine" not in pipelines
