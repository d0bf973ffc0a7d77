"""What the launchers' tests share: a small job to start, and the rig that each launcher's module here builds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rejeu.ports import Job, Launcher
from tests.paths import PLUGINS

NAME = "rejeu-replay-clicks"
SECONDS = 20
"""How long a test waits for what is to come at once."""
JOB_FOLDER = Path(__file__).parents[1]
PYTHONPATH = f"{JOB_FOLDER}{os.pathsep}{PLUGINS}"
"""Where a process finds small_job and rejeu."""


@dataclass(frozen=True)
class SmallJob:
    """A request for small_job."""

    words: tuple[str, ...]
    job_name: str = NAME
    ready_text: str | None = None
    module: str = "small_job"

    def to_argv(self) -> Sequence[str]:
        return self.words


class Rig(Protocol):
    """A launcher, and what a test needs to bring its jobs where it wants them. Built from a folder of its own."""

    @property
    def launcher(self) -> Launcher: ...

    def another(self) -> Launcher:
        """A launcher of the same place, as another worker has it."""
        ...

    def start(self, name: str = NAME) -> Job:
        """Start a job that runs until it is stopped, and answers a drain by ending well; return it once it runs."""
        ...

    def end(self, code: int) -> Job:
        """Start a job that ends by itself, with `code` and a last line; return it as found after its end."""
        ...

    def made(self) -> int:
        """How many jobs were ever made here."""
        ...

    def close(self) -> None:
        """End what still runs."""
        ...


Build = Callable[[Callable[[Path], Rig]], Rig]
"""Builds a rig of this kind, in a folder of its own."""


class ProcessesRig(Rig, Protocol):
    """A rig whose jobs are real processes, wherever the launcher believes them to be."""

    def run(self, *words: str, name: str = NAME, ready_text: str | None = None) -> Job:
        """Start a job that does these words and waits; return it once it waits."""
        ...

    def said(self, name: str = NAME) -> str:
        """All that the newest job of this name has printed."""
        ...

    def lives(self, name: str = NAME) -> bool:
        """Whether a process of the newest job of this name still runs."""
        ...


class ServerRig(Rig, Protocol):
    """A rig whose launcher asks a server."""

    def go_away(self) -> None:
        """Let the server no longer answer."""
        ...


class Meetings:
    """Places where a job and its test wait for each other: `small_job meet PATH`, and the test reads the path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def new(self) -> Path:
        self._count += 1
        fifo = self._folder / f"meeting-{self._count}"
        os.mkfifo(fifo)
        return fifo


def found(launcher: Launcher, name: str = NAME) -> Job:
    """The job of this name, which there is."""
    job = launcher.find(name)
    assert job is not None
    return job
