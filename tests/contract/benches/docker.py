"""The bench of the Docker launcher: an engine whose containers are processes of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from rejeu.launchers.docker import DockerLauncher
from rejeu.ports import Job
from tests.contract.benches.bench import NAME, PYTHONPATH, SECONDS, Meetings, SmallJob, found
from tests.fakes.docker_server import IMAGE, DockerServer
from tests.fakes.processes import Contained


class DockerBench:
    def __init__(self, folder: Path) -> None:
        self.meetings = Meetings(folder)
        self.server = DockerServer(folder, PYTHONPATH)
        self._patches = pytest.MonkeyPatch()
        self._patches.setenv("DOCKER_HOST", f"tcp://{self.server.address}")
        self.launcher = self.another()

    def another(self) -> DockerLauncher:
        return DockerLauncher(IMAGE)

    def start(self, name: str = NAME) -> Job:
        return self.run("drained", name=name)

    def run(self, *words: str, name: str = NAME, ready_text: str | None = None) -> Job:
        meeting = self.meetings.new()
        self.launcher.start(SmallJob((*words, "meet", str(meeting), "wait"), name, ready_text))
        meeting.read_text(encoding="utf-8")
        return found(self.launcher, name)

    def end(self, code: int) -> Job:
        self.launcher.start(SmallJob(("say", "first words", "say", "last words", "exit", str(code))))
        return self.ended()

    def ended(self, name: str = NAME) -> Job:
        """The job as found once its process is gone."""
        self.process(name).wait(SECONDS)
        return found(self.launcher, name)

    def process(self, name: str = NAME) -> Contained:
        process = self.server.newest(name).process
        assert process is not None
        return process

    def made(self) -> int:
        return len(self.server.made)

    def said(self, name: str = NAME) -> str:
        return self.process(name).said().decode()

    def lives(self, name: str = NAME) -> bool:
        return self.process(name).exit_code is None

    def go_away(self) -> None:
        self.server.close()

    def close(self) -> None:
        for container in self.server.made:
            if container.process is not None:
                container.process.kill()
        self.server.close()
        self._patches.undo()
