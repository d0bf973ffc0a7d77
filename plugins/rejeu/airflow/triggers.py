"""The waits of the DAGs, in the triggerer: each is one loop over a question, level-based, without a thread of its own.

On managed Airflow the triggerer sees neither DAGs nor plugins: this module must be installed there, as a wheel.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Self

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from rejeu.errors import RejeuError
from rejeu.launchers.choose import job_launcher
from rejeu.ports import ENDED, JobState, Signal, Verdict
from rejeu.spec.model import StreamSpec
from rejeu.state import open_store
from rejeu.state.lease import read_state
from rejeu.target import Target
from rejeu.timeline import format_instant, parse_instant
from rejeu.watchdog.jobs_seen import JobsSeen
from rejeu.watchdog.watch import Watch, WatchPlan

log = logging.getLogger(__name__)

TOLD = "told"
"""The key under which Airflow remembers, with the asset, what the last event said."""

POLL_SECONDS = 0.5
SHORTEST_LOOK_SECONDS = 0.05
REMINDER_SECONDS = 30.0
LONG_REMINDER_SECONDS = 600.0
"""How often to repeat what nobody here can mend."""
RESTORE_SECONDS = 10.0
"""How far apart events about missing parts are, so that a job that always dies is not restarted in a tight loop."""
UNSETTLED = frozenset({Signal.STARTING, Signal.STALLED, Signal.UNKNOWN, Signal.UNDELIVERED})
CALLING = frozenset({Signal.SILENT, Signal.UNDELIVERED})
"""What the watchdog DAG is called for, beside missing parts; only the first is mended by a relaunch."""
LOOKERS = ThreadPoolExecutor(max_workers=16, thread_name_prefix="rejeu-look")
"""The threads that all triggers of this process share for what would block their event loop."""


@cache
def stream_jobs() -> JobsSeen:
    """What all triggers of this process share to know which streaming jobs are gone."""
    return JobsSeen(job_launcher(Target.from_env()))


class _WatchTrigger(BaseTrigger):
    """What the two triggers over a watch share: its plan, and a look through it."""

    def __init__(self, plan: dict[str, Any], last_seen: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.plan = WatchPlan.model_validate(plan)
        self.last_seen = last_seen
        self._watch: Watch | None = None

    @classmethod
    def watching(cls, spec: StreamSpec, target: Target, last_seen: str | None = None) -> Self:
        """The trigger over what the spec wants watched; `last_seen` is when the signal was, as far as is known."""
        return cls(WatchPlan.of(spec, target).model_dump(mode="json"), last_seen)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"plan": self.plan.model_dump(mode="json")}
        return class_path(self), arguments | ({"last_seen": self.last_seen} if self.last_seen else {})

    async def look(self) -> Verdict:
        # The store too is opened in the thread: it may wait for another writer, and all triggers share this loop.
        return await asyncio.get_running_loop().run_in_executor(LOOKERS, self._look)

    def _look(self) -> Verdict:
        if self._watch is None:
            seen = parse_instant(self.last_seen) if self.last_seen else None
            self._watch = Watch(self.plan, self._jobs(), seen)
        return self._watch.look(datetime.now(UTC))

    def _jobs(self) -> JobsSeen | None:
        """What knows of the streaming job, where that is looked at, too."""
        return None


class SilenceTrigger(_WatchTrigger, BaseEventTrigger):
    """Fires when the signal is gone while rows are due, or a part is missing, and every so often until all is well.

    Level-based: the event is repeated because a triggerer can die between seeing and telling; whoever hears it looks
    again. It looks when the last verdict could first have changed to silence, so that no silence is seen late.
    """

    def _jobs(self) -> JobsSeen | None:
        return stream_jobs()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        told = await self._recall()
        while True:
            verdict = await self._look_on()
            if verdict.unsure_seconds > 0:
                await asyncio.sleep(verdict.unsure_seconds)
                continue
            now = datetime.now(UTC)
            if not needs_repair(verdict):
                if told.get("needs"):
                    told = {**told, "needs": []}
                    await self._remember(told)
            elif self._is_due(told, verdict, now):
                yield TriggerEvent(event_of(self.plan.stream, verdict))
                told = {"at": format_instant(now), "needs": needs_of(verdict)}
                await self._remember(told)
            await asyncio.sleep(self._pause(verdict))

    async def _look_on(self) -> Verdict:
        """Look, and try again later where a store or a service is away."""
        while True:
            try:
                return await self.look()
            except Exception as error:  # a trigger that raises is gone for good, and with it the watch
                log.warning("%s: cannot be looked at: %s: %s", self.plan.stream, type(error).__name__, error)
                await asyncio.sleep(self.plan.longest_look_seconds)

    def _is_due(self, told: dict[str, Any], verdict: Verdict, now: datetime) -> bool:
        """Whether to fire now.

        A silence is told at once. Other needs are told with a pause, so that they do not loop. All are repeated.
        """
        if not told or (verdict.signal in CALLING and told["needs"] != needs_of(verdict)):
            return True
        if told["needs"] != needs_of(verdict):
            seconds = RESTORE_SECONDS
        else:
            mends = verdict.signal is not Signal.UNDELIVERED and self.plan.replays
            seconds = REMINDER_SECONDS if mends else LONG_REMINDER_SECONDS
        return parse_instant(told["at"]) + timedelta(seconds=seconds) <= now

    def _pause(self, verdict: Verdict) -> float:
        longest = self.plan.longest_look_seconds
        if verdict.look_again is None or verdict.signal.needs_relaunch:
            return longest
        until = (verdict.look_again - datetime.now(UTC)).total_seconds()
        return max(SHORTEST_LOOK_SECONDS, min(until, longest))

    async def _recall(self) -> dict[str, Any]:
        """What was told last, by this trigger or the one before it: a restart must not flood."""
        last = await self.asset_state_store.aget(TOLD) if self.asset_state_store else None
        return last if isinstance(last, dict) else {}

    async def _remember(self, told: dict[str, Any]) -> None:
        if self.asset_state_store:
            await self.asset_state_store.aset(TOLD, told)


class ReturnTrigger(_WatchTrigger):
    """Fires once when a replay that was just started shows how it fares: the signal is back, or will not come.

    Where somebody else publishes, nobody can say that it will not: it fires when the signal is back.
    """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while self._is_open(verdict := await self.look()):
            await asyncio.sleep(self.plan.checkpoint_seconds)
        yield TriggerEvent(event_of(self.plan.stream, verdict))

    def _is_open(self, verdict: Verdict) -> bool:
        unsettled = verdict.signal in UNSETTLED or verdict.unsure_seconds > 0
        return unsettled or (verdict.signal.needs_relaunch and not self.plan.replays)


class JobTrigger(BaseTrigger):
    """Fires once when a launcher's job is in the awaited state, or has ended otherwise."""

    def __init__(self, name: str, awaited: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name = name
        self.awaited = awaited

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return class_path(self), {"name": self.name, "awaited": str(self.awaited)}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        launcher = job_launcher(Target.from_env())
        while True:
            job = await asyncio.to_thread(launcher.find, self.name)
            if job is None:
                gone = {"name": self.name, "id": "", "state": JobState.FAILED.value, "detail": "its record is gone"}
                yield TriggerEvent(gone)
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


def class_path(trigger: BaseTrigger) -> str:
    """Where the triggerer finds the trigger's class."""
    return f"{type(trigger).__module__}.{type(trigger).__qualname__}"


async def first_event(trigger: BaseTrigger, limit: timedelta) -> Any:
    """The payload of the trigger's first event, waited for right here. Raises TimeoutError."""
    event = await asyncio.wait_for(anext(aiter(trigger.run())), limit.total_seconds())
    return event.payload


def needs_repair(verdict: Verdict) -> bool:
    """Whether the watchdog DAG has something to do."""
    return verdict.signal in CALLING or bool(verdict.missing)


def needs_of(verdict: Verdict) -> list[str]:
    """What is to be repaired, each by its name."""
    called = [verdict.signal.name] if verdict.signal in CALLING else []
    return called + sorted(part.name for part in verdict.missing)


def event_of(stream: str, verdict: Verdict) -> dict[str, Any]:
    """A verdict as the payload of an event."""
    return {
        "stream": stream,
        "signal": verdict.signal.name,
        "reason": verdict.reason.name if verdict.reason else None,
        "missing": sorted(part.name for part in verdict.missing),
        "detected_at": format_instant(datetime.now(UTC)),
        "lost_at": format_instant(verdict.lost_at) if verdict.lost_at else None,
        "last_seen": format_instant(verdict.last_seen) if verdict.last_seen else None,
        "probe": verdict.probe,
        "detail": verdict.detail,
        "lease": "" if verdict.unsure_seconds > 0 else verdict.lease,
    }
