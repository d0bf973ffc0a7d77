"""The rig of the Vertex AI launcher: a Vertex AI whose custom jobs are processes of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rejeu.launchers.vertex_ai import VertexLauncher
from rejeu.ports import Job
from rejeu.testing.launchers import NAME, Meetings, SmallJob, found
from tests.fakes.processes import Contained
from tests.fakes.vertex_server import VertexServer
from tests.launchers.rigs.rig import PYTHONPATH, SECONDS


class VertexRig:
    def __init__(self, folder: Path) -> None:
        self.meetings = Meetings(folder)
        self.server = VertexServer(folder, PYTHONPATH)
        self._patches = pytest.MonkeyPatch()
        self._patches.setenv("VERTEX_AI_EMULATOR_HOST", f"http://{self.server.address}")
        self.launcher = self.another()

    def another(self, **settings: Any) -> VertexLauncher:
        place = {"project": "a-project", "region": "europe-west1", "image": "rejeu-replay:test", "patience": 0.2}
        return VertexLauncher(**place | settings)

    def start(self, name: str = NAME) -> Job:
        return self.run("drained", name=name)

    def run(self, *words: str, name: str = NAME) -> Job:
        """Start a job that does these words and waits; return it once it waits."""
        meeting = self.meetings.new()
        self.launcher.start(SmallJob((*words, "meet", str(meeting), "wait"), name))
        self.server.provision()
        meeting.read_text(encoding="utf-8")
        return found(self.launcher, name)

    def end(self, code: int) -> Job:
        return self.ended("say", "last words", "exit", str(code))

    def ended(self, *words: str) -> Job:
        """Start a job that does these words and ends; return it as found after its end."""
        self.launcher.start(SmallJob(words))
        self.server.provision()
        self.process().wait(SECONDS)
        return found(self.launcher)

    def process(self) -> Contained:
        """That of the newest job."""
        process = self.server.jobs[-1].process
        assert process is not None
        return process

    def made(self) -> int:
        """Only what still waits for a machine when there is one has been made: the others were taken back."""
        self.server.provision()
        return sum(job.process is not None for job in self.server.jobs)

    def asked(self) -> int:
        return len(self.server.calls)

    def go_away(self) -> None:
        self.server.close()

    def close(self) -> None:
        for job in self.server.jobs:
            if job.process is not None:
                job.process.kill()
        self.server.close()
        self._patches.undo()
