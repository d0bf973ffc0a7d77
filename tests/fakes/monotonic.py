"""Monotonic seconds that stand still until a test lets them go by; no fixture and no test."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import pytest


class FakeTime:
    """Stands in for the module `time` of those that measure waits."""

    def __init__(self, patch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
        self.seconds = 100.0
        for module in modules:
            patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.seconds))
