"""The two triggers over a watch: one tells a silence, and goes on; one tells how a replay fares that was started."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Self

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from rejeu.airflow.triggers.base import class_path
from rejeu.airflow.triggers.events import CALLING, event_of, needs_of, needs_repair
from rejeu.launchers.choose import job_launcher
from rejeu.ports import Signal, Verdict
from rejeu.spec.model import StreamSpec
from rejeu.target import Target
from rejeu.timeline import format_instant, parse_instant
from rejeu.watchdog.jobs_seen import JobsSeen
from rejeu.watchdog.watch import Watch, WatchPlan

log = logging.getLogger(__name__)

TOLD = "told"
"""The key under which Airflow remembers, with the asset, what the last event said."""

SHORTEST_LOOK_SECONDS = 0.05
REMINDER_SECONDS = 30.0
LONG_REMINDER_SECONDS = 600.0
"""How often to repeat what nobody here can mend."""
RESTORE_SECONDS = 10.0
"""How far apart events about missing parts are, so that a job that always dies is not restarted in a tight loop."""
UNSETTLED = frozenset({Signal.STARTING, Signal.STALLED, Signal.UNKNOWN, Signal.UNDELIVERED})
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
