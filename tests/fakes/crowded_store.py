"""A store in which others come between, and a clock that goes by when it is told; no fixture and no test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rejeu.errors import StateError
from rejeu.testing import MemoryStore
from rejeu.timeline import parse_instant


class Clock:
    """Wall clock and monotonic clock of some modules, which move together and only when told."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def now(self, zone: object) -> datetime:
        assert zone is UTC, "an instant without a zone is another one on each machine"
        return parse_instant("2026-11-20T12:00:00Z") + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return 1_000 + self.elapsed

    @contextmanager
    def installed(self, *modules: ModuleType) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for module in modules:
                patch.setattr(module, "datetime", self)
                patch.setattr(module, "time", SimpleNamespace(monotonic=self.monotonic), raising=False)
                patch.setattr(module, "elapsed", self.monotonic, raising=False)
            yield


class CrowdedStore(MemoryStore):
    """Lets somebody else do something between a client's reading and its writing, or loses its answer; once."""

    between: Callable[[], object] | None = None
    lost: type[StateError] | None = None
    """What a client hears of a write that is made: a conflict with itself, where it tried again, or nothing."""

    def save(self, name: str, document: dict[str, Any], expected: int | None) -> int:
        somebody, self.between = self.between, None
        lost, self.lost = self.lost, None
        if somebody is not None:
            somebody()
        version = super().save(name, document, expected)
        if lost is not None:
            raise lost("the answer was lost")
        return version
