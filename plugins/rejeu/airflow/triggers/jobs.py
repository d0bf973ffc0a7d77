"""The waits for jobs: a launcher's, and BigQuery's load jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from rejeu.airflow.triggers.base import class_path
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


class JobTrigger(BaseTrigger):
    """Fires once when a launcher's job is in the awaited state, or has ended otherwise."""

    def __init__(self, name: str, awaited: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name = name
        self.awaited = awaited

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return class_path(self), {"name": self.name, "awaited": str(self.awaited)}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        target = Target.from_env()
        launcher = job_launcher(target)
        while True:
            job = await asyncio.to_thread(launcher.find, self.name)
            if job is None:
                why = UNSEEN if are_processes(target, self.name) else GONE
                yield TriggerEvent({"name": self.name, "id": "", "state": JobState.FAILED.value, "detail": why})
                return
            if job.state in {*ENDED, self.awaited}:
                yield TriggerEvent({"name": job.name, "id": job.id, "state": job.state.value, "detail": job.detail})
                return
            await asyncio.sleep(max(POLL_SECONDS, job.rest_seconds))

    async def on_kill(self) -> None:
        """Somebody killed the task that waits: the job ends with it."""
        await asyncio.to_thread(job_launcher(Target.from_env()).stop, self.name)


class DrainTrigger(BaseTrigger):
    """Drains a job once so many seconds have passed, and fires when it has ended, or could not be ended.

    With a `stream`, the job is left alone if that is wanted again by then.
    """

    def __init__(self, name: str, after_seconds: float, stream: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name = name
        self.after_seconds = after_seconds
        self.stream = stream

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return class_path(self), {"name": self.name, "after_seconds": self.after_seconds, "stream": self.stream}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(self.after_seconds)
        try:
            left = await asyncio.to_thread(self._drain)
        except RejeuError as error:
            yield TriggerEvent({"error": str(error)})
            return
        yield TriggerEvent({"left": left})

    def _drain(self) -> str:
        """What is left of the job, in words."""
        target = Target.from_env()
        state = read_state(open_store(target.state), self.stream) if self.stream else None
        if state is not None and state.wanted:
            return "it was left alone: the stream is wanted again"
        job = job_launcher(target).stop(self.name)
        return "there was none" if job is None else f"{job.state}: {job.detail}"


class LoadJobTrigger(BaseTrigger):
    """Fires once when a load job, whoever started it, has filled a partition of a table."""

    def __init__(self, project: str, table: str, event_time: str, partition: str, poll_seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.question = {"project": project, "table": table, "event_time": event_time, "partition": partition}
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments: dict[str, Any] = {**self.question, "poll_seconds": self.poll_seconds}
        return class_path(self), arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from rejeu.bigquery.load_jobs import LoadJobSearch

        search = LoadJobSearch(**self.question)
        while (job_id := await asyncio.to_thread(search.look)) is None:
            await asyncio.sleep(self.poll_seconds)
        yield TriggerEvent({"job_id": job_id})
