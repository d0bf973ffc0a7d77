"""Run the tests of the Airflow side, the contracts and the rooms below under each package set; print and keep a table.

python -m tests.matrix [--only VERSION] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.matrix.environments import PYTHONS, environment, word, word_on
from tests.matrix.sets import LOCK, SETS
from tests.paths import ROOT

AIRFLOW: Final = ("tests/airflow",)
BELOW: Final = tuple(
    f"tests/{room}" for room in ("gcp", "infra", "jobs", "launchers", "orphans", "spec", "state", "watchdog")
)
LOCKED: Final = version("apache-airflow")
EXTRAS: Final = ("airflow", "replay", "beam", "launchers", "local")
REPORT: Final = ROOT / ".rejeu/matrix.json"


def main() -> int:
    """The number of sets under which not all is well."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--only", choices=[*SETS, LOCKED], help="one version of Airflow")
    parser.add_argument("--quick", action="store_true", help="the tests of the Airflow side alone, and no resolver")
    arguments = parser.parse_args()
    versions = [arguments.only] if arguments.only else [*SETS, LOCKED]
    rooms = AIRFLOW if arguments.quick else (*AIRFLOW, *BELOW)
    found = [_try(version, rooms, resolves=not arguments.quick) for version in versions]
    if not arguments.quick:
        pythons = {python: {extra: word_on(extra, python) for extra in EXTRAS} for python in PYTHONS}
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(json.dumps({"airflow": found, "python": pythons}, indent=2) + "\n")
        _print_pythons(pythons)
    _print(found)
    return sum(each["failed"] > 0 or each["passed"] == 0 or "refused" in each["resolver"] for each in found)


def _try(version: str, rooms: tuple[str, ...], *, resolves: bool) -> dict[str, Any]:
    """What became of the tests under this version."""
    if version == LOCKED:
        python, resolver = Path(sys.executable), f"is {LOCK.name}"
    else:
        resolver = word(SETS[version]) if resolves else ""
        python = environment(version, SETS[version])
    with tempfile.TemporaryDirectory(prefix="rejeu-matrix-") as scratch:
        report = Path(scratch) / "report.xml"
        command = [str(python), "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "-W", "ignore"]
        command += ["--basetemp", f"{scratch}/tests", f"--junitxml={report}", "-m", "not emulated and not slow", *rooms]
        ended = subprocess.run(command, cwd=ROOT, env=_environ(), check=False, timeout=3600)
        counts = _counts(report) if report.exists() else {"passed": 0, "failed": 0, "seconds": 0.0}
    counts["failed"] = counts["failed"] or int(ended.returncode not in (0, 1))
    return {"version": version, "resolver": resolver, **counts}


def _counts(report: Path) -> dict[str, Any]:
    (suite,) = ET.parse(report).getroot().iter("testsuite")
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    passed = int(suite.attrib["tests"]) - failed - int(suite.attrib["skipped"])
    return {"passed": passed, "failed": failed, "seconds": float(suite.attrib["time"])}


def _environ() -> dict[str, str]:
    """Without what would lead the other interpreter to our packages."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def _print(found: list[dict[str, Any]]) -> None:
    table = Table("Airflow", "passed", "failed", "seconds", "rejeu[airflow]")
    for each in found:
        table.add_row(
            each["version"], str(each["passed"]), str(each["failed"]), f"{each['seconds']:.0f}", each["resolver"]
        )
    Console().print(table)


def _print_pythons(pythons: dict[str, dict[str, str]]) -> None:
    table = Table("Python", *EXTRAS)
    for python, words in pythons.items():
        table.add_row(python, *words.values())
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
