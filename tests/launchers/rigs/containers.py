"""What the rigs of Docker and Kubernetes share: a server of the test's own, whose containers are processes here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pytest

from rejeu.ports import Job, Launcher
from rejeu.testing.launchers import NAME, Meetings, SmallJob, found
from tests.fakes.processes import Contained
from tests.launchers.rigs.rig import SECONDS


class Container(Protocol):
    """A container, or a pod of one."""

    @property
    def process(self) -> Contained | None: ...


class Server(Protocol):
    """A server whose containers can be looked at."""

    @property
    def made(self) -> Sequence[Container]: ...

    @property
    def calls(self) -> Sequence[object]: ...

    def newest(self, name: str) -> Container: ...

    def close(self) -> None: ...


class ContainersRig:
    """To be derived from: `server` starts the server, `another` makes a launcher for it."""

    def __init__(self, folder: Path) -> None:
        self.meetings = Meetings(folder)
        self._patches = pytest.MonkeyPatch()
        self.server = self.serve(folder)
        self.launcher = self.another()

    def serve(self, folder: Path) -> Server:
        raise NotImplementedError

    def another(self) -> Launcher:
        raise NotImplementedError

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

    def asked(self) -> int:
        return len(self.server.calls)

    def go_away(self) -> None:
        self.server.close()

    def close(self) -> None:
        for container in self.server.made:
            if container.process is not None:
                container.process.kill()
        self.server.close()
        self._patches.undo()
