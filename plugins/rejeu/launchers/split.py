"""A launcher that uses two others: one for streaming jobs, and one for all other jobs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from rejeu.ports import Job, JobRequest, Launcher
from rejeu.spec.names import STREAM_JOB


@dataclass(frozen=True)
class SplitLauncher:
    """Chooses by the job's name, so the name alone is enough to find the job."""

    streams: Launcher
    others: Launcher

    def start(self, request: JobRequest) -> Job:
        return self._of(request.job_name).start(request)

    def find(self, name: str) -> Job | None:
        return self._of(name).find(name)

    def find_active(self, names: Collection[str]) -> dict[str, Job]:
        places = (self.streams, self.others)
        shares = [(place, [name for name in names if self._of(name) is place]) for place in places]
        return {name: job for place, share in shares if share for name, job in place.find_active(share).items()}

    def stop(self, name: str, *, drain: bool = True) -> Job | None:
        return self._of(name).stop(name, drain=drain)

    def _of(self, name: str) -> Launcher:
        return self.streams if name.startswith(STREAM_JOB) else self.others
