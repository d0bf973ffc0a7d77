"""A state store of the replay's stream that breaks on command; no fixture and no test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rejeu.errors import StateError
from rejeu.ports import Versioned
from rejeu.state.model import StreamState
from rejeu.testing import MemoryStore
from tests.replay.rows import SECONDS, STREAM


class Store(MemoryStore):
    """A state store in which others may come between, and which may break; says how often it saved and refused."""

    between: Callable[[], object] | None = None
    broken = False

    def __init__(self) -> None:
        super().__init__()
        self.refused = self.saved = 0
        self._changed = threading.Condition()

    @property
    def stream(self) -> StreamState:
        """What is remembered of the stream; before anything is, that."""
        found = super().load(STREAM)
        return StreamState.model_validate(found.document if found else {"stream": STREAM})

    def wait_for(self, true: Callable[[], bool]) -> None:
        """Wait until something that writings and readings change is so."""
        with self._changed:
            assert self._changed.wait_for(true, SECONDS), self.stream

    def load(self, name: str) -> Versioned | None:
        self._refuse_if_broken()
        return super().load(name)

    def save(self, name: str, document: dict[str, Any], expected: int | None) -> int:
        somebody, self.between = self.between, None
        if somebody is not None:
            somebody()
        self._refuse_if_broken()
        version = super().save(name, document, expected)
        with self._changed:
            self.saved += 1
            self._changed.notify_all()
        return version

    def _refuse_if_broken(self) -> None:
        if self.broken:
            with self._changed:
                self.refused += 1
                self._changed.notify_all()
            raise StateError("state store: disk full")
