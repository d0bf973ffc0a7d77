"""A pipeline begun by `rejeu new --pipeline-template`: its test passes as it is written, and nothing is overwritten."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rejeu import cli, extensions
from rejeu.spec.pipelines import PIPELINES

GOOD = """
stream: readings
event_time: happened_at
live: {topic: readings, table: web.readings, pipeline: my_readings}
replay: {source: {table: web.history}}
"""


@pytest.fixture(autouse=True)
def no_extensions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(extensions, "__path__", [])
    yield
    PIPELINES.loaded.pop("my_readings", None)
    for name in [name for name in sys.modules if name.startswith("rejeu.extensions.")]:
        del sys.modules[name]


def begin(folder: Path, name: str = "my_readings", *more: str) -> int:
    return cli.main(["new", "--pipeline-template", name, "--dags", str(folder), *more])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_its_test_passes_as_it_is_written(tmp_path: Path, mode: str) -> None:
    assert begin(tmp_path) == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:bqemulator", f"--import-mode={mode}", "--rootdir=."]
    tried = subprocess.run([*command, "streams/my_readings"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "5 passed" in tried.stdout


def test_a_spec_beside_it_may_name_it_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert begin(tmp_path) == 0
    spec = tmp_path / "streams" / "readings.yaml"
    spec.write_text(GOOD)
    assert cli.main(["validate", str(spec)]) == 0
    assert f"{spec}: ok" in capsys.readouterr().out


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert begin(tmp_path) == 0
    mine = tmp_path / "streams" / "my_readings" / "transform.py"
    mine.write_text("# mine")
    assert begin(tmp_path) == 2
    assert f"{mine.parent} is there already" in capsys.readouterr().err
    assert mine.read_text() == "# mine"
    assert [each.name for each in mine.parents[1].iterdir()] == ["my_readings"]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("My-Rows", "3 to 40 small letters"),
        ("../rows", "3 to 40 small letters"),
        ("lambda", "no word of Python's"),
        ("rates", "there is a pipeline of that name"),
        ("json", "a module of Python has that name"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, rule: str
) -> None:
    assert begin(tmp_path, name) == 2
    assert f"NAME is {name!r}: " in (said := capsys.readouterr().err)
    assert rule in said
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_every_file_and_writes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert begin(tmp_path, "my_readings", "--dry-run") == 0
    shown = capsys.readouterr().out
    for file in ("__init__.py", "transform.py", "test_my_readings.py"):
        assert f"# {tmp_path}/streams/my_readings/{file}\n" in shown
    assert list(tmp_path.iterdir()) == []


def test_airflow_takes_none_of_its_files_for_dags(tmp_path: Path) -> None:
    assert begin(tmp_path) == 0
    texts = [file.read_text().lower() for file in (tmp_path / "streams" / "my_readings").iterdir()]
    assert [text for text in texts if "dag" in text and "airflow" in text] == []
