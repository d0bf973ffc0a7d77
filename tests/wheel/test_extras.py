"""Which extra brings a library: what is said of it is what pyproject.toml says."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from rejeu.extras import LIBRARIES, OURS, missing, require_local
from tests.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INDIRECT = {"google.api_core": "google-cloud-storage", "google.protobuf": "protobuf", "grpc": "grpcio"}
"""Named otherwise than the module, or brought by another."""
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def asked(extra: str) -> set[str]:
    """The distributions that an extra asks for by name, with those of the extras that it takes in."""
    names = {re.split(r"[\[<>=~! ]", line)[0].lower() for line in EXTRAS[extra]}
    taken = [inner for line in EXTRAS[extra] for inner in re.findall(r"^rejeu\[(.*)\]", line)]
    return (names - {"rejeu"}).union(*(asked(each) for inner in taken for each in inner.split(",")))


def distributions(module: str) -> set[str]:
    """What may bring a module; those of Google are named after it."""
    if module in INDIRECT:
        return {INDIRECT[module]}
    if module.startswith("google."):
        return {module.replace(".", "-").replace("_", "-"), f"{module.replace('.', '-')}".replace("_v2", "")}
    return {each.lower() for each in packages_distributions().get(module, ())}


@pytest.mark.parametrize(("extra", "module"), [(extra, name) for extra, names in LIBRARIES.items() for name in names])
def test_an_extra_brings_what_is_said_of_it(extra: str, module: str) -> None:
    assert distributions(module) & asked(extra), (distributions(module), asked(extra))


def test_one_machine_needs_no_extra_but_local() -> None:
    assert asked("local") >= asked("airflow") | asked("beam") | asked("replay") | asked("emulators")


def test_every_library_that_the_rooms_import_has_its_sentence() -> None:
    base = {re.split(r"[<>=~! ]", line)[0].lower() for line in PROJECT["dependencies"]}
    known = packages_distributions()
    for file in (ROOT / "plugins" / "rejeu").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top in sys.stdlib_module_names or top in OURS or {each.lower() for each in known[top]} & base:
                    continue
                told = missing(ModuleNotFoundError(name=name))
                assert told is not None
                assert "pip install 'rejeu[" in str(told)


def test_here_everything_is_installed() -> None:
    require_local()
