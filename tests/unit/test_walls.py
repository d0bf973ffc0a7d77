"""The walls of the design: what each part of Rejeu may bring along when it is imported, directly or through others."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "plugins"

AIRFLOW, BEAM = "airflow", "apache_beam"
GOOGLE = ("google.cloud", "google.auth", "google.api_core", "google.pubsub")
CORE = (
    *("spec", "spec_types", "timeline", "flags", "request", "workers", "message", "errors", "ports", "pipelines"),
    *("live", "sql", "target", "testing"),
)

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


def test_a_forbidden_package_would_be_seen() -> None:
    assert "google.cloud.bigquery" in _comes_with(["google.cloud.bigquery"], *GOOGLE)


def test_the_core_brings_neither_airflow_nor_beam_nor_google() -> None:
    assert _comes_with([f"rejeu.{name}" for name in CORE], AIRFLOW, BEAM, *GOOGLE, "grpc") == []


def test_the_state_store_brings_neither_airflow_nor_beam_nor_google() -> None:
    assert _comes_with(_modules(PLUGINS / "rejeu" / "state", PLUGINS), AIRFLOW, BEAM, *GOOGLE) == []


def test_the_watch_brings_neither_airflow_nor_beam_and_google_only_when_a_probe_is_used() -> None:
    probes = _modules(PLUGINS / "rejeu" / "watchdog" / "probes", PLUGINS)
    assert _comes_with([*probes, "rejeu.watchdog.watch", "rejeu.watchdog.repair"], AIRFLOW, BEAM, *GOOGLE) == []


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    assert _comes_with(["rejeu.cli"], AIRFLOW, BEAM, *GOOGLE, "pyarrow", "duckdb", "grpc") == []


def test_the_replay_brings_neither_airflow_nor_beam() -> None:
    assert _comes_with(_modules(PLUGINS / "rejeu" / "replay", PLUGINS), AIRFLOW, BEAM) == []


def test_a_launcher_brings_its_library_only_when_it_is_used() -> None:
    libraries = ("docker", "kubernetes", AIRFLOW, BEAM, *GOOGLE)
    assert _comes_with(_modules(PLUGINS / "rejeu" / "launchers", PLUGINS), *libraries) == []


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
