"""The rig of the Cloud Run launcher: a Cloud Run whose executions are processes of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rejeu.launchers.cloud_run import CloudRunLauncher
from rejeu.ports import Job
from rejeu.testing.launchers import NAME, Meetings, SmallJob, found
from tests.fakes.cloud_run_server import CloudRunServer
from tests.fakes.processes import Contained
from tests.launchers.rigs.rig import PYTHONPATH, SECONDS


class CloudRunRig:
    def __init__(self, folder: Path) -> None:
        self.meetings = Meetings(folder)
        self.server = CloudRunServer(folder, PYTHONPATH)
        self._patches = pytest.MonkeyPatch()
        self._patches.setenv("CLOUD_RUN_EMULATOR_HOST", self.server.address)
        self.launcher = self.another()

    def another(self, **settings: Any) -> CloudRunLauncher:
        place = {"project": "a-project", "region": "europe-west1", "image": "rejeu-replay:test", "patience": 0.2}
        return CloudRunLauncher(**place | settings)

    def start(self, name: str = NAME) -> Job:
        return self.run("drained", name=name)

    def run(self, *words: str, name: str = NAME) -> Job:
        """Start a job that does these words and waits; return it once it waits."""
        meeting = self.meetings.new()
        self.launcher.start(SmallJob((*words, "meet", str(meeting), "wait"), name))
        meeting.read_text(encoding="utf-8")
        return found(self.launcher, name)

    def end(self, code: int) -> Job:
        return self.ended("say", "last words", "exit", str(code))

    def ended(self, *words: str) -> Job:
        """Start a job that does these words and ends; return it as found after its end."""
        self.launcher.start(SmallJob(words))
        for process in self.processes():
            process.wait(SECONDS)
        return found(self.launcher)

    def processes(self) -> list[Contained]:
        """Those of the newest execution, one for each task."""
        return self.server.runs[-1].containers

    def made(self) -> int:
        return len(self.server.runs)

    def asked(self) -> int:
        return len(self.server.received)

    def go_away(self) -> None:
        self.server.close()

    def close(self) -> None:
        for run in self.server.runs:
            for process in run.containers:
                process.kill()
        self.server.close()
        self._patches.undo()
