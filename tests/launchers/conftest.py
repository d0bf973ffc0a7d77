"""What the launchers' tests share: one rig of each launcher, cleared away after its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.launchers.rigs.rig import PYTHONPATH, Build, Rig


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Builds a rig in a folder of its own."""
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    built: list[Rig] = []

    def make(kind: Callable[[Path], Rig]) -> Rig:
        built.append(kind(tmp_path))
        return built[-1]

    yield make
    for rig in built:
        rig.close()
