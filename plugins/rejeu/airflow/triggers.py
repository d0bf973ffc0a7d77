"""The waits of the DAGs, in the triggerer: each is one loop over a question, level-based, without a thread of its own.

On managed Airflow the triggerer sees neither DAGs nor plugins: this module must be installed there, as a wheel.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from rejeu.ports import ENDED, JobState, Signal, Verdict
from rejeu.state import open_store
from rejeu.state.heartbeat import HeartbeatProbe
from rejeu.target import Target
from rejeu.timeline import format_instant, parse_instant

POLL_SECONDS = 0.5
REMINDER_SECONDS = 30.0
UNSETTLED = frozenset({Signal.STARTING, Signal.STALLED, Signal.UNKNOWN})
LAST_EVENT = "silent_event_at"


class _StreamTrigger(BaseTrigger):
    """What the two triggers over a probe share: its arguments, and a look through it."""

    def __init__(self, stream: str, state: str, silence_seconds: float, grace_seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stream = stream
        self.state = state
        self.silence_seconds = silence_seconds
        self.grace_seconds = grace_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {
            "stream": self.stream,
            "state": self.state,
            "silence_seconds": self.silence_seconds,
            "grace_seconds": self.grace_seconds,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def look(self) -> Verdict:
        probe = HeartbeatProbe(
            open_store(self.state),
            self.stream,
            timedelta(seconds=self.silence_seconds),
            timedelta(seconds=self.grace_seconds),
        )
        return await asyncio.to_thread(probe.check, datetime.now(UTC))


class SilenceTrigger(_StreamTrigger, BaseEventTrigger):
    """Fires when the signal is gone while rows are due, and again every so often until it is back.

    The event is repeated because a triggerer can die between seeing and telling; whoever hears it looks again.
    """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while True:
            verdict = await self.look()
            if verdict.signal.needs_relaunch:
                event = event_of(self.stream, verdict)
                if await self._is_news():
                    yield TriggerEvent(event)
            await asyncio.sleep(POLL_SECONDS)

    async def _is_news(self) -> bool:
        """Whether the last event is long enough ago; remembered in Airflow, so that a restart does not flood."""
        now = datetime.now(UTC)
        store = self.asset_state_store
        last = await store.aget(LAST_EVENT) if store is not None else None
        if isinstance(last, str) and parse_instant(last) + timedelta(seconds=REMINDER_SECONDS) > now:
            return False
        if store is not None:
            await store.aset(LAST_EVENT, format_instant(now))
        return True


class ReturnTrigger(_StreamTrigger):
    """Fires once when a replay that was just started shows how it fares: the signal is back, or will not come."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while (verdict := await self.look()).signal in UNSETTLED:
            await asyncio.sleep(POLL_SECONDS)
        yield TriggerEvent(event_of(self.stream, verdict))


class JobTrigger(BaseTrigger):
    """Fires once when a launcher's job runs, or has ended."""

    def __init__(self, name: str, until_end: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name = name
        self.until_end = until_end

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {"name": self.name, "until_end": self.until_end}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        launcher = Target.from_env().make_launcher()
        while True:
            job = await asyncio.to_thread(launcher.find, self.name)
            if job is None:
                gone = {"name": self.name, "id": "", "state": JobState.FAILED, "detail": "its record is gone"}
                yield TriggerEvent(gone)
                return
            if job.state in ENDED or (job.state is JobState.RUNNING and not self.until_end):
                yield TriggerEvent({"name": job.name, "id": job.id, "state": job.state, "detail": job.detail})
                return
            await asyncio.sleep(POLL_SECONDS)

    async def on_kill(self) -> None:
        """Somebody killed the task that waits: the job ends with it."""
        await asyncio.to_thread(Target.from_env().make_launcher().stop, self.name)


class LoadJobTrigger(BaseTrigger):
    """Fires once when a load job, whoever started it, has filled a partition of a table."""

    def __init__(self, project: str, table: str, event_time: str, partition: str, poll_seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.question = {"project": project, "table": table, "event_time": event_time, "partition": partition}
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments: dict[str, Any] = {**self.question, "poll_seconds": self.poll_seconds}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from rejeu.gcp.load_jobs import find_load_job

        while (job_id := await asyncio.to_thread(find_load_job, **self.question)) is None:
            await asyncio.sleep(self.poll_seconds)
        yield TriggerEvent({"job_id": job_id})


def event_of(stream: str, verdict: Verdict) -> dict[str, Any]:
    """A verdict as the payload of an event."""
    return {
        "stream": stream,
        "signal": verdict.signal.name,
        "detected_at": format_instant(datetime.now(UTC)),
        "lost_at": format_instant(verdict.lost_at) if verdict.lost_at else None,
        "detail": verdict.detail,
    }
