"""The waits of the DAGs, in the triggerer: each is one loop over a question, level-based, without a thread of its own.

On managed Airflow the triggerer sees neither DAGs nor plugins: this module must be installed there, as a wheel.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from rejeu.ports import ENDED, JobState, Signal, Verdict
from rejeu.spec import StreamSpec
from rejeu.state import open_store
from rejeu.state.heartbeat import HeartbeatProbe
from rejeu.target import Target
from rejeu.timeline import format_instant, parse_instant

POLL_SECONDS = 0.5
REMINDER_SECONDS = 30.0
UNSETTLED = frozenset({Signal.STARTING, Signal.STALLED, Signal.UNKNOWN})
LAST_EVENT = "silent_event_at"
"""The key under which Airflow remembers, with the asset, when the last event was sent."""


class _StreamTrigger(BaseTrigger):
    """What the two triggers over a probe share: its arguments, and a look through it."""

    def __init__(self, stream: str, state: str, silence_seconds: float, grace_seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stream = stream
        self.state = state
        self.silence_seconds = silence_seconds
        self.grace_seconds = grace_seconds

    @classmethod
    def watching(cls, spec: StreamSpec, target: Target) -> Self:
        """The trigger over the probe that the spec asks for."""
        watchdog = spec.watchdog
        return cls(spec.stream, target.state, watchdog.silence.total_seconds(), watchdog.grace.total_seconds())

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {
            "stream": self.stream,
            "state": self.state,
            "silence_seconds": self.silence_seconds,
            "grace_seconds": self.grace_seconds,
        }
        return class_path(self), arguments

    async def look(self) -> Verdict:
        # The store too is opened in the thread: it may wait for another writer, and all triggers share this loop.
        return await asyncio.to_thread(self._look)

    def _look(self) -> Verdict:
        silence, grace = timedelta(seconds=self.silence_seconds), timedelta(seconds=self.grace_seconds)
        return HeartbeatProbe(open_store(self.state), self.stream, silence, grace).check(datetime.now(UTC))


class SilenceTrigger(_StreamTrigger, BaseEventTrigger):
    """Fires when the signal is gone while rows are due, and again every so often until it is back.

    The event is repeated because a triggerer can die between seeing and telling; whoever hears it looks again.
    """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        told = await self._recall()
        while True:
            verdict = await self.look()
            now = datetime.now(UTC)
            if not verdict.signal.needs_relaunch:
                told = None
            elif told is None or told + timedelta(seconds=REMINDER_SECONDS) <= now:
                yield TriggerEvent(event_of(self.stream, verdict))
                told = now
                await self._remember(told)
            await asyncio.sleep(POLL_SECONDS)

    async def _recall(self) -> datetime | None:
        """When the last event was sent, by this trigger or the one before it: a restart must not flood."""
        last = await self.asset_state_store.aget(LAST_EVENT) if self.asset_state_store else None
        return parse_instant(last) if isinstance(last, str) else None

    async def _remember(self, told: datetime) -> None:
        if self.asset_state_store:
            await self.asset_state_store.aset(LAST_EVENT, format_instant(told))


class ReturnTrigger(_StreamTrigger):
    """Fires once when a replay that was just started shows how it fares: the signal is back, or will not come."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while (verdict := await self.look()).signal in UNSETTLED:
            await asyncio.sleep(POLL_SECONDS)
        yield TriggerEvent(event_of(self.stream, verdict))


class JobTrigger(BaseTrigger):
    """Fires once when a launcher's job is in the awaited state, or has ended otherwise."""

    def __init__(self, name: str, awaited: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name = name
        self.awaited = awaited

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return class_path(self), {"name": self.name, "awaited": str(self.awaited)}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        launcher = Target.from_env().job_launcher()
        while True:
            job = await asyncio.to_thread(launcher.find, self.name)
            if job is None:
                gone = {"name": self.name, "id": "", "state": JobState.FAILED.value, "detail": "its record is gone"}
                yield TriggerEvent(gone)
                return
            if job.state in {*ENDED, self.awaited}:
                yield TriggerEvent({"name": job.name, "id": job.id, "state": job.state.value, "detail": job.detail})
                return
            await asyncio.sleep(POLL_SECONDS)

    async def on_kill(self) -> None:
        """Somebody killed the task that waits: the job ends with it."""
        await asyncio.to_thread(Target.from_env().job_launcher().stop, self.name)


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
        from rejeu.gcp.load_jobs import find_load_job

        while (job_id := await asyncio.to_thread(find_load_job, **self.question)) is None:
            await asyncio.sleep(self.poll_seconds)
        yield TriggerEvent({"job_id": job_id})


def class_path(trigger: BaseTrigger) -> str:
    """Where the triggerer finds the trigger's class."""
    return f"{type(trigger).__module__}.{type(trigger).__qualname__}"


def event_of(stream: str, verdict: Verdict) -> dict[str, Any]:
    """A verdict as the payload of an event."""
    return {
        "stream": stream,
        "signal": verdict.signal.name,
        "detected_at": format_instant(datetime.now(UTC)),
        "lost_at": format_instant(verdict.lost_at) if verdict.lost_at else None,
        "detail": verdict.detail,
    }
