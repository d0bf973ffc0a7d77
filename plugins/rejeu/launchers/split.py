"""A launcher of two: streaming jobs run in one place, and all other jobs in another."""

from __future__ import annotations

from dataclasses import dataclass

from rejeu.ports import Job, JobRequest, Launcher
from rejeu.spec.names import STREAM_JOB


@dataclass(frozen=True)
class SplitLauncher:
    """A job's name tells where it runs, so whoever knows the name finds the job."""

    streams: Launcher
    others: Launcher

    def start(self, request: JobRequest) -> Job:
        return self._of(request.job_name).start(request)

    def find(self, name: str) -> Job | None:
        return self._of(name).find(name)

    def stop(self, name: str, *, drain: bool = True) -> Job | None:
        return self._of(name).stop(name, drain=drain)

    def _of(self, name: str) -> Launcher:
        return self.streams if name.startswith(STREAM_JOB) else self.others
