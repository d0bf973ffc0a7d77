"""The rig of the fake launcher, whose jobs are where a test puts them."""

from __future__ import annotations

from pathlib import Path

from rejeu.ports import Job, JobState
from rejeu.testing import FakeLauncher
from rejeu.testing.launchers import NAME, SmallJob, found


class FakeRig:
    def __init__(self, folder: Path) -> None:
        self.launcher = FakeLauncher()

    def another(self) -> FakeLauncher:
        return self.launcher

    def start(self, name: str = NAME) -> Job:
        return self.launcher.start(SmallJob((), name))

    def end(self, code: int) -> Job:
        self.launcher.start(SmallJob(()))
        state = JobState.FAILED if code else JobState.SUCCEEDED
        self.launcher.end(NAME, state, f"exit code {code}: last words" if code else "")
        return found(self.launcher)

    def made(self) -> int:
        return len(self.launcher.started)

    def close(self) -> None:
        """Nothing runs."""
