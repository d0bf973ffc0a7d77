"""A state store in this process's memory: for a replay that nobody resumes, and for tests."""

from __future__ import annotations

import copy
import threading
from typing import Any

from rejeu.ports import Versioned
from rejeu.state.documents import conflict


class MemoryStore:
    """Documents in a dict; threads of one process may share it."""

    def __init__(self) -> None:
        self._documents: dict[str, Versioned] = {}
        self._lock = threading.Lock()

    def load(self, name: str) -> Versioned | None:
        with self._lock:
            return copy.deepcopy(self._documents.get(name))

    def save(self, name: str, document: dict[str, Any], expected: int | None) -> int:
        with self._lock:
            found = self._documents.get(name)
            if (found.version if found else None) != expected:
                raise conflict(name, expected)
            self._documents[name] = Versioned(copy.deepcopy(document), (expected or 0) + 1)
            return self._documents[name].version

    def remove(self, name: str, expected: int) -> None:
        with self._lock:
            found = self._documents.get(name)
            if found is None or found.version != expected:
                raise conflict(name, expected)
            del self._documents[name]

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._documents)
