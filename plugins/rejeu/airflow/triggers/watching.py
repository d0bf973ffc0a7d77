"""The two triggers over a watch: one tells a silence, and goes on; one tells how a replay fares that was started."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Self, TypeVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from pydantic import BaseModel

from rejeu.airflow.triggers.base import StoredTrigger
from rejeu.airflow.triggers.events import CALLING, event_of, needs_of, needs_repair
from rejeu.launchers.choose import job_launcher
from rejeu.ports import Signal, StateStore, Verdict
from rejeu.spec.model import StreamSpec
from rejeu.state import open_store
from rejeu.state.watch_note import Blindness, WatchNote, note_blind, note_sight, read_note, write_note
from rejeu.target import Target
from rejeu.timeline import parse_instant
from rejeu.watchdog.jobs_seen import JobsSeen
from rejeu.watchdog.watch import Watch, WatchPlan

log = logging.getLogger(__name__)
R = TypeVar("R")

SHORTEST_LOOK_SECONDS = 0.05
REMINDER_SECONDS = 30.0
LONG_REMINDER_SECONDS = 600.0
"""How often to repeat what nobody here can mend."""
RESTORE_SECONDS = 10.0
"""How far apart events about missing parts are, so that a job that always dies is not restarted in a tight loop."""
UNREADABLE_SECONDS = 5.0
"""How often to try again where the plan says nothing, for it cannot be read."""
UNSETTLED = frozenset({Signal.STARTING, Signal.STALLED, Signal.UNKNOWN, Signal.UNDELIVERED})
LOOKERS = ThreadPoolExecutor(max_workers=16, thread_name_prefix="rejeu-look")
"""The threads that all triggers of this process share for what would block their event loop."""


@cache
def stream_jobs() -> JobsSeen:
    """What all triggers of this process share to know which streaming jobs are gone."""
    return JobsSeen(job_launcher(Target.from_env()))


class Watched(BaseModel):
    """What is watched, and when the signal was seen last, as far as that is known."""

    plan: WatchPlan
    last_seen: str | None = None


class _WatchTrigger(StoredTrigger[Watched]):
    """What the two triggers over a watch share: a look through it, and what they say where they cannot look."""

    model = Watched
    _watch: Watch | None = None
    _blind_since: datetime | None = None
    _said_at: datetime | None = None

    @classmethod
    def watching(cls, spec: StreamSpec, target: Target, last_seen: str | None = None) -> Self:
        """The trigger over what the spec wants watched; `last_seen` is when the signal was, as far as is known."""
        return cls.of(Watched(plan=WatchPlan.of(spec, target), last_seen=last_seen))

    @property
    def plan(self) -> WatchPlan:
        """What is watched. Raises RequestError where this Rejeu cannot read it."""
        return self.arguments.plan

    async def look(self) -> Verdict:
        # The store too is opened in the thread: it may wait for another writer, and all triggers share this loop.
        return await asyncio.get_running_loop().run_in_executor(LOOKERS, self._look)

    def _look(self) -> Verdict:
        if self._watch is None:
            seen = self.arguments.last_seen
            self._watch = Watch(self.plan, self._jobs(), parse_instant(seen) if seen else None)
        return self._watch.look(datetime.now(UTC))

    def _jobs(self) -> JobsSeen | None:
        """What knows of the streaming job, where that is looked at, too."""
        return None

    async def look_on(self) -> Verdict:
        """Look, and try again later where a store or a service is away; say so as long as that lasts."""
        while True:
            try:
                verdict = await self.look()
            except Exception as error:  # a trigger that raises is gone for good, and with it the watch
                await self._say_blind(f"{type(error).__name__}: {error}")
                await asyncio.sleep(self._blind_pause)
                continue
            if self._blind_since is not None:
                seconds = (datetime.now(UTC) - self._blind_since).total_seconds()
                log.warning("%s: can be looked at again, after %.0f s", self.plan.stream, seconds)
                self._blind_since = self._said_at = None
            return verdict

    async def _say_blind(self, why: str) -> None:
        now = datetime.now(UTC)
        self._blind_since = self._blind_since or now
        if self._said_at is None or self._said_at + timedelta(seconds=REMINDER_SECONDS) <= now:
            self._said_at = now
            seconds = (now - self._blind_since).total_seconds()
            log.error("%s: cannot be looked at, for %.0f s now, so no silence is seen: %s", self._name, seconds, why)
            await self._note_blind(self._blind_since, why)

    async def _note_blind(self, since: datetime, why: str) -> None:
        """Leave word of it where others look."""

    @property
    def _blind_pause(self) -> float:
        try:
            return self.plan.longest_look_seconds
        except Exception:  # whatever the plan cannot say
            return UNREADABLE_SECONDS

    @property
    def _name(self) -> str:
        """The stream's, as far as that can be read."""
        try:
            return str(self.content["plan"]["stream"])
        except Exception:  # whatever the arguments are
            return f"a stream of unknown name ({str(self._stored)[:80]!r})"


class SilenceTrigger(_WatchTrigger, BaseEventTrigger):
    """Fires when the signal is gone while rows are due, or a part is missing, and every so often until all is well.

    Level-based: the event is repeated because a triggerer can die between seeing and telling; whoever hears it looks
    again. It looks when the last verdict could first have changed to silence, so that no silence is seen late. What it
    told lies with the stream's state, for Airflow's store of an asset's state is another one in each version.
    """

    _note: WatchNote | None = None
    _recalled = False
    _sees = False
    """Whether no word lies in the store that it cannot look."""

    def _jobs(self) -> JobsSeen | None:
        return stream_jobs()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while True:
            verdict = await self.look_on()
            await self._note_sight()
            if verdict.unsure_seconds > 0:
                await asyncio.sleep(verdict.unsure_seconds)
                continue
            note, now = await self._recall(), datetime.now(UTC)
            if not needs_repair(verdict):
                if note is not None and note.needs:
                    await self._keep(note.model_copy(update={"needs": ()}))
            elif note is None or self._is_due(note, verdict, now):
                yield TriggerEvent(event_of(self.plan.stream, verdict))
                await self._keep(WatchNote(told_at=now, needs=tuple(needs_of(verdict))))
            await asyncio.sleep(self._pause(verdict))

    def _is_due(self, note: WatchNote, verdict: Verdict, now: datetime) -> bool:
        """Whether to fire now.

        A silence is told at once. Other needs are told with a pause, so that they do not loop. All are repeated.
        """
        is_new = note.needs != tuple(needs_of(verdict))
        if verdict.signal in CALLING and is_new:
            return True
        if is_new:
            seconds = RESTORE_SECONDS
        else:
            mends = verdict.signal is not Signal.UNDELIVERED and self.plan.replays
            seconds = REMINDER_SECONDS if mends else LONG_REMINDER_SECONDS
        return note.told_at + timedelta(seconds=seconds) <= now

    def _pause(self, verdict: Verdict) -> float:
        longest = self.plan.longest_look_seconds
        if verdict.look_again is None or verdict.signal.needs_relaunch:
            return longest
        until = (verdict.look_again - datetime.now(UTC)).total_seconds()
        return max(SHORTEST_LOOK_SECONDS, min(until, longest))

    async def _recall(self) -> WatchNote | None:
        """What was told last, by this trigger or the one before it: a restart must not flood."""
        if not self._recalled:
            self._recalled = True
            try:
                self._note = await self._in_store(read_note)
            except Exception as error:  # rather told twice than never
                log.warning("%s: what was told before is not known: %s", self.plan.stream, error)
        return self._note

    async def _keep(self, note: WatchNote) -> None:
        """Remember it, and write it down as far as that goes."""
        self._note = note
        try:
            await self._in_store(partial(write_note, note=note))
        except Exception as error:  # a trigger that raises is gone; without the note a restart tells once more
            log.warning("%s: what was told cannot be written down: %s", self.plan.stream, error)

    async def _note_blind(self, since: datetime, why: str) -> None:
        self._sees = False
        try:
            await self._in_store(partial(note_blind, blindness=Blindness(since=since, why=why)))
        except Exception as error:  # most often the store is what is away
            log.error("%s: nor can that be written down for the patrol: %s", self._name, error)

    async def _note_sight(self) -> None:
        if self._sees:
            return
        try:
            await self._in_store(note_sight)
            self._sees = True
        except Exception as error:  # the next look tries again
            log.warning("%s: that it can be looked at cannot be written down: %s", self.plan.stream, error)

    async def _in_store(self, do: Callable[[StateStore, str], R]) -> R:
        """Do this with the store and the stream's name, apart from the event loop; a plan that is broken has both."""
        plan = self.content["plan"]
        return await asyncio.get_running_loop().run_in_executor(
            LOOKERS, lambda: do(open_store(plan["state"]), plan["stream"])
        )


class ReturnTrigger(_WatchTrigger):
    """Fires once when a replay that was just started shows how it fares: the signal is back, or will not come.

    Where somebody else publishes, nobody can say that it will not: it fires when the signal is back.
    """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        plan = self.plan  # one that cannot be read fails the task, and none waits for it
        while self._is_open(verdict := await self.look_on()):
            await asyncio.sleep(plan.checkpoint_seconds)
        yield TriggerEvent(event_of(plan.stream, verdict))

    def _is_open(self, verdict: Verdict) -> bool:
        unsettled = verdict.signal in UNSETTLED or verdict.unsure_seconds > 0
        return unsettled or (verdict.signal.needs_relaunch and not self.plan.replays)
