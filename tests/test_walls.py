"""The walls of the design: what each part of Rejeu may bring along when it is imported, directly or through others."""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.paths import PLUGINS, ROOT

TEST_MODULE = re.compile(r"tests\..*\btest_\w+\.")

AIRFLOW, BEAM = "airflow", "apache_beam"
GOOGLE = ("google.cloud", "google.auth", "google.api_core", "google.pubsub")
FLOORS = """
    errors
    extensions timeline message ports extras clocks
    registry
    spec
    target
    jobs
    gcp
    bigquery
    state
    launchers
    replay
    checks handover reconcile orphans
    watchdog
    new testing
    local
    airflow
    cli
"""
"""The rooms of plugins/rejeu/, the ground floor first: a room uses lower floors only, never its own or a higher one."""
LIGHT = (
    "errors",
    "extensions",
    "extras",
    "registry",
    "timeline",
    "clocks",
    "message",
    "ports",
    "target",
    "handover",
    "testing",
    "spec",
    "jobs",
    "state",
)
"""What brings neither Airflow nor Beam nor Google's libraries."""

LOOK = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
forbidden = tuple(sys.argv[1].split(","))
# google.cloud alone is a bare namespace, which a .pth file of site-packages makes before any import.
print(*sorted(name for name in sys.modules if name.startswith(tuple(each + "." for each in forbidden))
              or name in forbidden and getattr(sys.modules[name], "__file__", None)))
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow makes its home when it is imported."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path_factory.getbasetemp() / "airflow"))


def _modules(folder: Path, root: Path) -> list[str]:
    """Every module below the folder that is imported, not run."""
    names = (".".join(file.relative_to(root).with_suffix("").parts) for file in sorted(folder.rglob("*.py")))
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def _comes_with(modules: list[str], *forbidden: str) -> list[str]:
    """Which of the forbidden packages a fresh interpreter holds once it has imported these modules."""
    assert modules
    found = subprocess.run(
        [sys.executable, "-c", LOOK, ",".join(forbidden), *modules],
        env=os.environ | {"PYTHONPATH": f"{PLUGINS}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()[-1].split()


@cache
def _imported_at_module_level(file: Path) -> set[str]:
    """The modules that this file itself names in an import that runs when the file is imported."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(file.read_text(encoding="utf-8")))
    return names


def _arrows(folder: Path, root: Path) -> dict[str, dict[str, list[str]]]:
    """Which entries of a folder, its modules and folders, import which others, inside functions too, and where."""
    package = folder.relative_to(root).parts
    entries = {entry.stem for entry in folder.iterdir() if entry.suffix == ".py" or any(entry.rglob("*.py"))}
    arrows: dict[str, dict[str, list[str]]] = {}
    for file in sorted(folder.rglob("*.py")):
        own = file.relative_to(folder).parts[0].removesuffix(".py")
        for name in _imported(file):
            parts = tuple(name.split("."))
            if parts[: len(package)] != package or len(parts) == len(package):
                continue
            other = parts[len(package)]
            if other in entries and other != own:
                arrows.setdefault(own, {}).setdefault(other, []).append(str(file.relative_to(root)))
    return arrows


@cache
def _imported(file: Path) -> set[str]:
    """The modules that this file names in an import, wherever that stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _circle(arrows: dict[str, dict[str, list[str]]]) -> list[str]:
    """The entries of a circle, the first one repeated; empty where there is none."""
    try:
        tuple(TopologicalSorter(arrows).static_order())
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def test_a_circle_would_be_seen() -> None:
    assert _circle({"one": {"two": ["one.py"]}, "two": {"one": ["two.py"]}}) in (
        ["one", "two", "one"],
        ["two", "one", "two"],
    )


@pytest.mark.parametrize(
    "folder",
    sorted({file.parent for top in (PLUGINS / "rejeu", ROOT / "beam_jobs") for file in top.rglob("*.py")}),
    ids=lambda folder: str(folder.relative_to(ROOT)),
)
def test_no_two_entries_of_a_folder_import_each_other(folder: Path) -> None:
    root = PLUGINS if folder.is_relative_to(PLUGINS) else ROOT
    assert _circle(_arrows(folder, root)) == []


def test_every_room_has_its_floor_and_uses_lower_ones_only() -> None:
    floors = [line.split() for line in FLOORS.splitlines() if line.strip()]
    floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
    folder = PLUGINS / "rejeu"
    rooms = {entry.stem for entry in folder.iterdir() if entry.suffix == ".py" or any(entry.rglob("*.py"))}
    assert set(floor) == rooms - {"__init__"}
    upward = [
        f"{room} imports {other}: {', '.join(files)}"
        for room, others in _arrows(folder, PLUGINS).items()
        for other, files in others.items()
        if floor[other] >= floor[room]
    ]
    assert upward == []


@pytest.mark.slow
def test_a_forbidden_package_would_be_seen() -> None:
    assert "google.cloud.bigquery" in _comes_with(["google.cloud.bigquery"], *GOOGLE)


def test_the_light_rooms_bring_neither_airflow_nor_beam_nor_google() -> None:
    folders = [PLUGINS / "rejeu" / name for name in LIGHT if (PLUGINS / "rejeu" / name).is_dir()]
    modules = [module for folder in folders for module in _modules(folder, PLUGINS)]
    files = [f"rejeu.{name}" for name in LIGHT if (PLUGINS / "rejeu" / f"{name}.py").exists()]
    assert _comes_with([*modules, *files, "rejeu.bigquery.sql"], AIRFLOW, BEAM, *GOOGLE, "grpc") == []


def test_the_watch_brings_neither_airflow_nor_beam_and_google_only_when_a_probe_is_used() -> None:
    probes = _modules(PLUGINS / "rejeu" / "watchdog" / "probes", PLUGINS)
    assert _comes_with([*probes, "rejeu.watchdog.watch", "rejeu.watchdog.repair"], AIRFLOW, BEAM, *GOOGLE) == []


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    assert _comes_with(["rejeu.cli"], AIRFLOW, BEAM, *GOOGLE, "pyarrow", "duckdb", "grpc") == []


def test_a_look_at_a_file_brings_none_of_googles_libraries() -> None:
    assert _comes_with(["rejeu.new.look", "rejeu.new.explain", "rejeu.new.guess"], AIRFLOW, BEAM, *GOOGLE) == []


@pytest.mark.slow
def test_the_replay_brings_neither_airflow_nor_beam() -> None:
    assert _comes_with(_modules(PLUGINS / "rejeu" / "replay", PLUGINS), AIRFLOW, BEAM) == []


def test_a_launcher_brings_its_library_only_when_it_is_used() -> None:
    libraries = ("docker", "kubernetes", AIRFLOW, BEAM, *GOOGLE)
    assert _comes_with(_modules(PLUGINS / "rejeu" / "launchers", PLUGINS), *libraries) == []


@pytest.mark.slow
def test_the_beam_jobs_bring_no_airflow() -> None:
    assert _comes_with(_modules(ROOT / "beam_jobs", ROOT), AIRFLOW) == []


@pytest.mark.parametrize(
    "file",
    [*sorted((ROOT / "dags").rglob("*.py")), *sorted((PLUGINS / "rejeu" / "airflow").rglob("*.py"))],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_no_dag_module_names_beam_or_google_cloud_at_its_top(file: Path) -> None:
    names = _imported_at_module_level(file)
    assert [name for name in names if f"{name}.".startswith((f"{BEAM}.", "google.cloud.", "beam_jobs."))] == []


@pytest.mark.slow
def test_parsing_dags_brings_neither_beam_nor_google_cloud() -> None:
    assert _comes_with(_modules(PLUGINS / "rejeu" / "airflow", PLUGINS), BEAM, "google.cloud") == []


@pytest.mark.parametrize("folder", ["plugins/rejeu", "beam_jobs", "dags"])
def test_no_module_is_longer_than_a_person_reads(folder: str) -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in (ROOT / folder).rglob("*.py")}
    assert [str(file) for file, length in lengths.items() if length > 400] == []


@pytest.mark.parametrize("folder", ["plugins/rejeu", "beam_jobs", "dags"])
def test_every_module_opens_with_what_lives_there(folder: str) -> None:
    files = (ROOT / folder).rglob("*.py")
    assert [str(file) for file in files if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))] == []


def test_no_test_imports_from_a_conftest() -> None:
    """It is pytest's: whoever imports it by name has it twice. What is shared stands in a module of its own."""
    files = (ROOT / "tests").rglob("*.py")
    assert [str(file) for file in files if any(".conftest" in name for name in _imported_at_module_level(file))] == []


def test_no_test_imports_from_another_one() -> None:
    """What they share stands beside them, or among the fakes."""
    files = (ROOT / "tests").rglob("*.py")
    named = {str(file): _imported_at_module_level(file) for file in files}
    assert [
        file for file, names in named.items() if any(name.startswith("tests.") and ".test_" in name for name in names)
    ] == []
