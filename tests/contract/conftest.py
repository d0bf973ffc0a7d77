"""What the launchers' tests share: one bench of each launcher, cleared away after its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.benches.bench import PYTHONPATH, Bench

Build = Callable[[Callable[[Path], Bench]], Bench]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Builds a bench in a folder of its own."""
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    built: list[Bench] = []

    def make(kind: Callable[[Path], Bench]) -> Bench:
        built.append(kind(tmp_path))
        return built[-1]

    yield make
    for bench in built:
        bench.close()
