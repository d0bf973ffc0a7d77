"""What the watchdog looks at, as one: the probes that a stream's spec names, and the parts that may be missing.

The trigger in the triggerer, the tasks of the watchdog DAG and the patrol all look through this.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final, Self

from pydantic import BaseModel, ConfigDict

from rejeu.jobs.build import stream_job_request
from rejeu.ports import Missing, Signal, StateStore, Verdict, Watched, Witness
from rejeu.spec.model import StreamSpec
from rejeu.spec.probes import PROBES
from rejeu.state import open_store, rhythm
from rejeu.state.lease import read_state
from rejeu.target import Target
from rejeu.watchdog.jobs_seen import JobsSeen
from rejeu.watchdog.probes.combined import look
from rejeu.watchdog.probes.heartbeat import HeartbeatProbe, heartbeat_of

PROBE_LOOK_SECONDS: Final = 1.0
"""How often probes are asked that do not know what is due."""
LOOKS_REMEMBERED: Final = 3
"""For how many looks the launcher is asked on for the job of a stream that nobody looks at any more."""


class WatchPlan(BaseModel):
    """What to look at, in values that travel to the triggerer; equal plans are one trigger."""

    model_config = ConfigDict(frozen=True)

    stream: str
    state: str
    silence_seconds: float
    grace_seconds: float
    probes: tuple[str, ...]
    replays: bool
    standby: bool
    job_name: str
    project: str
    topic: str
    tap: str
    metric: str

    @classmethod
    def of(cls, spec: StreamSpec, target: Target) -> Self:
        """What this spec wants watched."""
        watchdog = spec.watchdog
        return cls(
            stream=spec.stream,
            state=target.state,
            silence_seconds=watchdog.silence.total_seconds(),
            grace_seconds=watchdog.grace.total_seconds(),
            probes=watchdog.probe,
            replays=spec.replay is not None,
            standby=spec.replay is not None and spec.replay.standby,
            job_name=stream_job_request(spec, target).job_name,
            project=target.project,
            topic=spec.live.topic,
            tap=target.subscription(spec.tap),
            metric=watchdog.metric,
        )

    @property
    def silence(self) -> timedelta:
        return timedelta(seconds=self.silence_seconds)

    @property
    def checkpoint_seconds(self) -> float:
        """How often a replay that lives says something new."""
        return rhythm(self.state).checkpoint_seconds

    @property
    def longest_look_seconds(self) -> float:
        """How long nobody need look, whatever the last verdict was: somebody may have started it anew meanwhile."""
        if not all(PROBES[name].knows_due for name in self.probes):
            return PROBE_LOOK_SECONDS
        return max(rhythm(self.state).lease_seconds, self.silence_seconds / 2)

    def wants_job(self, verdict: Verdict) -> bool:
        """Whether a stream that is seen like this should have its streaming job."""
        return verdict.signal is not Signal.STOPPED and not (self.replays and verdict.signal is Signal.UNKNOWN)


class Watch:
    """Looks through the plan's probes; keeps what they have seen between two looks.

    Of the streaming job it knows what `jobs` has seen, if it is given: no look asks the launcher, nor waits for it.
    """

    def __init__(self, plan: WatchPlan, jobs: JobsSeen | None = None, last_seen: datetime | None = None) -> None:
        self._plan, self._jobs, self._last_seen = plan, jobs, last_seen

    @cached_property
    def heartbeat(self) -> HeartbeatProbe:
        """What the replay's own state says; the one probe that knows which rows are due."""
        return heartbeat_of(self._watched)

    def look(self, now: datetime) -> Verdict:
        """All probes' verdict, with the parts that are missing. Raises RejeuError where nothing can be known."""
        verdict = self._look_through_probes(now)
        missing = {Missing.STREAM_JOB} if self._jobs is not None and self._misses_job(self._jobs, verdict) else set()
        return replace(verdict, missing=verdict.missing | missing)

    def _look_through_probes(self, now: datetime) -> Verdict:
        heartbeat = self.heartbeat.check(now) if self._plan.replays else None
        if heartbeat is None and not self._is_wanted():
            return Verdict(Signal.STOPPED, probe="+".join(self._plan.probes))
        return look(heartbeat, self._witnesses, now)

    def look_surely(self, watched: frozenset[str] = frozenset()) -> Verdict:
        """Look now, and again after as long as makes a silence certain: at once where its lease was `watched` before.

        A verdict that is not certain even then is of a replay that lives. Raises RejeuError as `look` does.
        """
        self.heartbeat.lease.believe(watched)
        verdict = self.look(datetime.now(UTC))
        if verdict.unsure_seconds > 0:
            time.sleep(verdict.unsure_seconds)
            verdict = self.look(datetime.now(UTC))
        return verdict

    @cached_property
    def _store(self) -> StateStore:
        return open_store(self._plan.state)

    @cached_property
    def _witnesses(self) -> list[Witness]:
        kinds = [PROBES[name] for name in self._plan.probes]
        return [kind.make(self._watched) for kind in kinds if not kind.knows_due]

    @property
    def _watched(self) -> Watched:
        plan = self._plan
        return Watched(
            stream=plan.stream,
            project=plan.project,
            topic=plan.topic,
            tap=plan.tap,
            metric=plan.metric,
            silence=plan.silence,
            grace=timedelta(seconds=plan.grace_seconds),
            standby=plan.standby,
            lease=timedelta(seconds=rhythm(plan.state).lease_seconds),
            store=self._store,
            last_seen=self._last_seen,
        )

    def _is_wanted(self) -> bool:
        """Whether somebody wants a stream whose publisher is not ours."""
        state = read_state(self._store, self._plan.stream)
        return state is not None and state.wanted

    def _misses_job(self, jobs: JobsSeen, verdict: Verdict) -> bool:
        if self._plan.wants_job(verdict):
            return jobs.is_gone(self._plan.job_name, LOOKS_REMEMBERED * self._plan.longest_look_seconds)
        jobs.forget(self._plan.job_name)
        return False
