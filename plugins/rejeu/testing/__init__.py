"""Fakes of the ports, for our tests and users': a launcher that starts nothing, a probe that says what it is told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from rejeu.ports import ENDED, Job, JobRequest, JobState, Signal, Verdict
from rejeu.state.memory import MemoryStore

if TYPE_CHECKING:
    from rejeu.registry import Registry

__all__ = ["FakeLauncher", "FakeProbe", "MemoryStore", "registered"]

Record = TypeVar("Record")


class FakeLauncher:
    """Remembers what was asked of it; `end` decides how a job ended."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.started: list[JobRequest] = []
        self.stopped: list[str] = []
        self._lock = Lock()

    def start(self, request: JobRequest) -> Job:
        with self._lock:
            running = self.jobs.get(request.job_name)
            if running is not None and running.state not in ENDED:
                return running
            self.started.append(request)
            state = JobState.RUNNING if request.ready_text is None else JobState.STARTING
            argv = tuple(request.to_argv())
            self.jobs[request.job_name] = Job(request.job_name, str(len(self.started)), state, argv=argv)
            return self.jobs[request.job_name]

    def find(self, name: str) -> Job | None:
        return self.jobs.get(name)

    def find_active(self, names: Collection[str]) -> dict[str, Job]:
        return {name: job for name, job in self.jobs.items() if name in names and job.state not in ENDED}

    def stop(self, name: str, *, drain: bool = True) -> Job | None:
        if name not in self.jobs:
            return None
        self.stopped.append(name)
        if self.jobs[name].state not in ENDED:
            self.end(name, JobState.STOPPED)
        return self.jobs[name]

    def end(self, name: str, state: JobState, detail: str = "") -> None:
        """Let a job be where a test wants it."""
        self.jobs[name] = replace(self.jobs[name], state=state, detail=detail)


class FakeProbe:
    """Gives one verdict after the other, the last one for ever."""

    def __init__(self, verdicts: Iterable[Verdict | Signal]) -> None:
        self._verdicts = [each if isinstance(each, Verdict) else Verdict(each) for each in verdicts]

    def check(self, now: datetime) -> Verdict:
        return self._verdicts.pop(0) if len(self._verdicts) > 1 else self._verdicts[0]


@contextmanager
def registered(registry: Registry[Record], name: str, record: Record) -> Iterator[None]:
    """While this lasts the registry has this record under this name, whatever else it has."""
    before = registry.loaded.copy()
    registry.loaded[name] = record
    try:
        yield
    finally:
        registry.loaded.clear()
        registry.loaded.update(before)
