"""The waits for a launcher's jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from airflow.triggers.base import TriggerEvent
from pydantic import BaseModel

from rejeu.airflow.triggers.base import StoredTrigger, still_waits
from rejeu.errors import RejeuError
from rejeu.launchers.choose import are_processes, job_launcher
from rejeu.ports import ENDED, JobState
from rejeu.state import open_store
from rejeu.state.lease import read_state
from rejeu.target import Target

POLL_SECONDS = 0.5
GONE = "its record is gone"
UNSEEN = (
    "no record of it is on the triggerer's machine: jobs that are processes need worker and triggerer on one machine, "
    "with one REJEU_HOME; where they are several, set REJEU_LAUNCHER to cloud-run, kubernetes or vertex-ai, and "
    "REJEU_JOBS to dataflow"
)


class AwaitedJob(BaseModel):
    """A launcher's job, by its name, and the state that is awaited."""

    name: str
    awaited: JobState

    @property
    def ends_by_itself(self) -> bool:
        """Whether its end is awaited; a streaming job is awaited until it runs, and has none."""
        return self.awaited in ENDED


class JobTrigger(StoredTrigger[AwaitedJob]):
    """Fires once when a launcher's job is in the awaited state, or has ended otherwise."""

    model = AwaitedJob

    async def run(self) -> AsyncIterator[TriggerEvent]:
        target = Target.from_env()
        launcher = job_launcher(target)
        name, awaited = self.arguments.name, self.arguments.awaited
        while True:
            job = await asyncio.to_thread(launcher.find, name)
            if job is None:
                why = UNSEEN if are_processes(target, name) else GONE
                yield TriggerEvent({"name": name, "id": "", "state": JobState.FAILED.value, "detail": why})
                return
            if job.state in {*ENDED, awaited}:
                yield TriggerEvent({"name": job.name, "id": job.id, "state": job.state.value, "detail": job.detail})
                return
            await asyncio.sleep(max(POLL_SECONDS, job.rest_seconds))

    async def on_kill(self) -> None:
        """Somebody killed the task that waits: a job that ends by itself ends with it, a streaming job does not."""
        if self.arguments.ends_by_itself and not await still_waits(self):
            await asyncio.to_thread(job_launcher(Target.from_env()).stop, self.arguments.name)


class DrainedJob(BaseModel):
    """A job that is to drain once so many seconds have passed."""

    name: str
    after_seconds: float = 0.0
    stream: str | None = None
    """Where this stream is wanted again by then, the job is left alone."""


class DrainTrigger(StoredTrigger[DrainedJob]):
    """Drains a job when it is time, and fires when it has ended, or could not be ended."""

    model = DrainedJob

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(self.arguments.after_seconds)
        try:
            left = await asyncio.to_thread(self._drain)
        except RejeuError as error:
            yield TriggerEvent({"error": str(error)})
            return
        yield TriggerEvent({"left": left})

    def _drain(self) -> str:
        """What is left of the job, in words."""
        target, stream = Target.from_env(), self.arguments.stream
        state = read_state(open_store(target.state), stream) if stream else None
        if state is not None and state.wanted:
            return "it was left alone: the stream is wanted again"
        job = job_launcher(target).stop(self.arguments.name)
        return "there was none" if job is None else f"{job.state}: {job.detail}"
