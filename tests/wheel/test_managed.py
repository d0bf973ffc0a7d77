"""`rejeu[airflow]` beside what managed Airflow has: every package of its sets lies in our ranges, and none is missing.

`make matrix` has the resolver's word for it, and runs the tests there.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.matrix.sets import LOCK, SETS
from tests.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def pins(file: Path) -> dict[str, str]:
    """The version of each package that the file names."""
    return dict(re.findall(r"^([a-z0-9][\w.-]*)==([^\s;\\]+)", file.read_text(), re.MULTILINE))


def wanted(extra: str) -> list[Requirement]:
    """What the extra asks for, with those that it takes in."""
    found = []
    for line in EXTRAS[extra]:
        each = Requirement(line)
        found += [need for taken in each.extras for need in wanted(taken)] if each.name == "rejeu" else [each]
    return found


@pytest.mark.parametrize("file", [*SETS.values(), LOCK], ids=lambda file: file.stem)
def test_every_package_of_a_set_lies_in_our_ranges(file: Path) -> None:
    there = pins(file)
    needs = [*map(Requirement, PROJECT["dependencies"]), *wanted("airflow")]
    assert len(needs) > 20
    outside = [
        f"{need}, and the set has {there.get(need.name)}"
        for need in needs
        if there.get(need.name) is None or not need.specifier.contains(there[need.name], prereleases=True)
    ]
    assert outside == []


def test_beam_never_stands_beside_airflow_where_that_is_managed() -> None:
    assert "apache-beam" not in {need.name for need in wanted("airflow")}


@pytest.mark.parametrize("name", ["google-cloud-run", "google-cloud-aiplatform", "google-cloud-storage", "google-auth"])
def test_a_worker_starts_jobs_in_the_cloud_without_a_further_extra(name: str) -> None:
    assert name in {need.name for need in wanted("airflow")}
