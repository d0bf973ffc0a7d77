"""What the launchers' tests share beside `rejeu.testing.launchers`: the rig that each launcher's module here builds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from rejeu.testing.launchers import LauncherRig
from tests.paths import PLUGINS

SECONDS = 60
"""How long a test waits for what is to come at once."""
PYTHONPATH = str(PLUGINS)
"""Where a process finds the small job."""


class Rig(LauncherRig, Protocol):
    """A rig that is built from a folder of its own."""

    def close(self) -> None:
        """End what still runs."""
        ...


Build = Callable[[Callable[[Path], Rig]], Rig]
"""Builds a rig of this kind, in a folder of its own."""
