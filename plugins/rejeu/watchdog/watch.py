"""What the watchdog looks at, as one: the probes that a stream's spec names, and the parts that may be missing.

The trigger in the triggerer, the tasks of the watchdog DAG and the patrol all look through this.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final, Self

from pydantic import BaseModel, ConfigDict

from rejeu.errors import LaunchError
from rejeu.jobs.build import stream_job_request
from rejeu.ports import ENDED, Launcher, Missing, Signal, StateStore, Verdict, Watched, Witness
from rejeu.spec.model import StreamSpec
from rejeu.spec.probes import PROBES
from rejeu.state import open_store, rhythm
from rejeu.state.lease import read_state
from rejeu.target import Target
from rejeu.watchdog.probes.combined import look
from rejeu.watchdog.probes.heartbeat import HeartbeatProbe, heartbeat_of

log = logging.getLogger(__name__)

JOB_LOOK_SECONDS: Final = 2.0
"""How often the launcher is asked for the streaming job, at most."""
PROBE_LOOK_SECONDS: Final = 1.0
"""How often probes are asked that do not know what is due."""


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


class Watch:
    """Looks through the plan's probes; keeps what they have seen between two looks."""

    def __init__(self, plan: WatchPlan, jobs: Launcher, last_seen: datetime | None = None) -> None:
        self._plan, self._jobs, self._last_seen = plan, jobs, last_seen
        self._job_is_missing = False
        self._look_for_job_at = float("-inf")

    @cached_property
    def heartbeat(self) -> HeartbeatProbe:
        """What the replay's own state says; the one probe that knows which rows are due."""
        return heartbeat_of(self._watched)

    def look(self, now: datetime) -> Verdict:
        """All probes' verdict, with the parts that are missing. Raises RejeuError where nothing can be known."""
        heartbeat = self.heartbeat.check(now) if self._plan.replays else None
        if heartbeat is None and not self._is_wanted():
            return Verdict(Signal.STOPPED, probe="+".join(self._plan.probes))
        verdict = look(heartbeat, self._witnesses, now)
        if verdict.signal in (Signal.STOPPED, Signal.UNKNOWN) and heartbeat is not None:
            return verdict
        missing = verdict.missing | ({Missing.STREAM_JOB} if self._misses_job() else set())
        return replace(verdict, missing=missing)

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

    def _misses_job(self) -> bool:
        """Whether the streaming job is gone, as far as its launcher could say."""
        now = time.monotonic()
        if now >= self._look_for_job_at:
            self._look_for_job_at = now + JOB_LOOK_SECONDS
            try:
                job = self._jobs.find(self._plan.job_name)
            except LaunchError as error:
                # Whether the signal flows is known without the launcher's service.
                log.warning("%s: the streaming job cannot be looked for: %s", self._plan.stream, error)
                return self._job_is_missing
            self._job_is_missing = job is None or job.state in ENDED
            if job is not None:
                self._look_for_job_at = now + max(JOB_LOOK_SECONDS, job.rest_seconds)
        return self._job_is_missing
