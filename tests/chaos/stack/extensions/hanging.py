"""The launcher `hanging`: processes of this machine, whose service does not answer while a file says so."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rejeu.errors import LaunchError
from rejeu.launchers.process import ProcessLauncher
from rejeu.ports import Job
from rejeu.target import LauncherKind, Target

HANGS: Final = "jobs-hang"
"""The file in the target's home while which is there every question hangs."""
PATIENCE_SECONDS: Final = 30.0
"""After so long a client of a cloud's service gives up, as a rule."""
LOOK_SECONDS: Final = 0.1


class HangingLauncher(ProcessLauncher):
    """Jobs go on, but nobody hears of them."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / "jobs")
        self._hangs = home / HANGS

    def find(self, name: str) -> Job | None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._hangs.exists():
            if time.monotonic() > deadline:
                raise LaunchError(f"{name}: the service of jobs gave no answer within {PATIENCE_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)
        return super().find(name)


def _make(target: Target, environment: Mapping[str, str]) -> HangingLauncher:
    return HangingLauncher(target.home)


LAUNCHER = LauncherKind(_make, starts_replays=False, starts_streams=True)
