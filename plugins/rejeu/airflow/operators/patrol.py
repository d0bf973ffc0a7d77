"""The operators of `rejeu.patrol`: look at every stream at once, hear alerts, and forget those that were seen to."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowRuntimeError

from rejeu.airflow.operators.base import GOOGLE_CONNECTION
from rejeu.airflow.operators.watchdog import RUNS
from rejeu.airflow.triggers import event_of, needs_repair
from rejeu.errors import RejeuError
from rejeu.launchers.choose import job_launcher
from rejeu.ports import Job, Missing, Signal, Verdict
from rejeu.spec.model import StreamSpec
from rejeu.state import open_store
from rejeu.state.lease import read_state
from rejeu.state.model import StreamState
from rejeu.target import Target
from rejeu.watchdog.incidents import ended
from rejeu.watchdog.jobs_seen import asked_apart
from rejeu.watchdog.watch import Watch, WatchPlan

if TYPE_CHECKING:
    from airflow.sdk import Context
    from google.cloud.pubsub_v1 import SubscriberClient

    from rejeu.gcp.alerts import Alert

LOOKERS: Final = 8
"""How many streams are looked at side by side: a state store in the cloud takes its time for each."""
LOOK_SECONDS: Final = 30.0
"""How long all streams together may take: what was seen by then is worth more than all of it too late."""
JOBS_SECONDS: Final = 10.0
"""How much longer the launcher may take to say which streaming jobs run."""
UNDER_WAY: Final = ["queued", "running"]


@dataclass(frozen=True)
class Look:
    """What one stream was found to be."""

    spec: StreamSpec
    plan: WatchPlan
    state: StreamState | None
    verdict: Verdict

    @property
    def stream(self) -> str:
        return self.plan.stream


class PatrolOperator(BaseOperator):
    """What the tasks of the patrol share. What its class says of itself is what the task's page shows."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(doc_md=inspect.getdoc(type(self)), **kwargs)

    @cached_property
    def target(self) -> Target:
        return Target.from_env()

    @property
    def subscription(self) -> str:
        """Where alerts arrive."""
        return self.target.subscription(self.target.alerts)

    def subscriber(self) -> SubscriberClient:
        """A client with the credentials of the Airflow connection."""
        from airflow.providers.google.cloud.hooks.pubsub import PubSubHook

        return PubSubHook(gcp_conn_id=GOOGLE_CONNECTION).subscriber_client


class LookAround(PatrolOperator):
    """Looks at every stream as its watchdog would, and says which watchdogs have something to do.

    Its result is one entry for each of them. A watchdog that is paused, or at work already, is left alone.
    """

    def __init__(self, *, specs: Iterable[StreamSpec], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.specs = tuple(specs)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        now = datetime.now(UTC)
        plans = [WatchPlan.of(spec, self.target) for spec in self.specs]
        jobs = asked_apart(lambda: self._active([plan.job_name for plan in plans]))
        found = self._with_jobs(self._look_at_all(plans, now), jobs)
        looks = [look for look in found if _needs_watchdog(look, now)]
        called = {look.stream: _conf("patrol", look.stream, look.verdict) for look in looks}
        for look in looks:
            words = (look.verdict.signal, *sorted(look.verdict.missing), look.verdict.detail)
            self.log.warning("%s: %s", look.stream, "; ".join(filter(None, words)))
        alerts = self._pull() if self.target.alerts else []
        for alert in alerts:
            self.log.warning("alert about %s: %s", alert.topic, alert.summary)
            for stream in self._fed_by(alert):
                called.setdefault(stream, _conf("alert", stream, Verdict(Signal.UNKNOWN)))
        silent = {look.stream for look in looks if look.verdict.signal.needs_relaunch}
        free = [stream for stream in called if self._is_free(context["ti"], stream, is_silent=stream in silent)]
        if alerts:
            self._divide(context["ti"], alerts, free)
        return [{"trigger_dag_id": _watchdog(stream), "conf": called[stream]} for stream in free]

    def _look_at_all(self, plans: Sequence[WatchPlan], now: datetime) -> list[Look]:
        """Those that can be looked at in time. Raises RejeuError where none of them can."""

        def look(spec: StreamSpec, plan: WatchPlan) -> Look | Exception:
            try:
                verdict = Watch(plan).look(now)
                return Look(spec, plan, read_state(open_store(self.target.state), spec.stream), verdict)
            except Exception as error:  # whatever is wrong with one stream must not hide the others
                self.log.warning("%s: cannot be looked at: %s", spec.stream, error)
                return error

        pool = ThreadPoolExecutor(LOOKERS)
        # Not always in the same order: where time is short, the same ones would never be looked at.
        pairs = [*zip(self.specs, plans, strict=True)]
        tried = {spec.stream: pool.submit(look, spec, plan) for spec, plan in random.sample(pairs, len(pairs))}
        late = wait(tried.values(), LOOK_SECONDS).not_done
        pool.shutdown(wait=False, cancel_futures=True)
        if late:
            self.log.error("%d of %d streams were not looked at within %g s", len(late), len(tried), LOOK_SECONDS)
        in_time = [tried[spec.stream] for spec in self.specs if tried[spec.stream] not in late]
        found = [each.result() for each in in_time]
        looks = [each for each in found if isinstance(each, Look)]
        if tried and not looks:
            why = f"the first for this: {found[0]}" if found else f"for none answers within {LOOK_SECONDS:g} s"
            raise RejeuError(f"none of {len(tried)} streams can be looked at, {why}")
        return looks

    def _active(self, names: Sequence[str]) -> dict[str, Job]:
        """Those of these streaming jobs that have not ended."""
        return job_launcher(self.target).find_active(names)

    def _with_jobs(self, looks: Sequence[Look], jobs: Future[dict[str, Job]]) -> list[Look]:
        """The same, each with its streaming job among what is missing; without, where the launcher does not answer."""
        try:
            active = jobs.result(JOBS_SECONDS)
        except Exception as error:  # whatever keeps the jobs away must not hide a silence
            why = f"no answer within {JOBS_SECONDS:g} s" if isinstance(error, TimeoutError) else error
            self.log.error("streaming jobs cannot be looked for, so one that is gone is not seen: %s", why)
            return [*looks]
        gone = [look for look in looks if look.plan.wants_job(look.verdict) and look.plan.job_name not in active]
        return [_without_job(look) if look in gone else look for look in looks]

    def _pull(self) -> list[Alert]:
        from rejeu.gcp.alerts import pull_alerts

        with self._unhindered():
            return pull_alerts(self.subscriber(), self.subscription)
        return []

    def _fed_by(self, alert: Alert) -> list[str]:
        return [spec.stream for spec in self.specs if spec.live.topic == alert.topic]

    def _is_free(self, ti: Any, stream: str, *, is_silent: bool) -> bool:
        """Whether one more run of the stream's watchdog would do anything: a silence is not left for what restores."""
        try:
            if ti.get_dag(_watchdog(stream)).is_paused:
                self.log.warning("%s: it needs its watchdog, which is paused", stream)
                return False
            under_way = ti.get_dr_count(_watchdog(stream), states=UNDER_WAY)
            return bool(under_way < (RUNS if is_silent else 1))
        except AirflowRuntimeError as error:
            self.log.warning("%s: it needs its watchdog, which Airflow cannot be asked about: %s", stream, error)
            return False

    def _divide(self, ti: Any, alerts: Sequence[Alert], free: Sequence[str]) -> None:
        """Leave the alerts whose runs are still to come for `acknowledge`; the others have come to their end."""
        from rejeu.gcp.alerts import acknowledge

        pending = [alert.ack_id for alert in alerts if set(self._fed_by(alert)) & set(free)]
        ti.xcom_push(key="alerts", value=pending)
        with self._unhindered():
            others = [alert.ack_id for alert in alerts if alert.ack_id not in pending]
            acknowledge(self.subscriber(), self.subscription, others)

    @contextmanager
    def _unhindered(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever keeps alerts away must not keep the patrol from what it saw itself
            self.log.error("%s: alerts cannot be had: %s", self.subscription, error)


class AcknowledgeAlerts(PatrolOperator):
    """Has the alerts whose watchdogs were triggered not come again; one that is not acknowledged comes once more."""

    template_fields = ("ack_ids",)

    def __init__(self, *, ack_ids: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ack_ids = ack_ids

    def execute(self, context: Context) -> None:
        from rejeu.gcp.alerts import acknowledge

        acknowledge(self.subscriber(), self.subscription, self.ack_ids or [])


def _watchdog(stream: str) -> str:
    return f"{stream}.watchdog"


def _without_job(look: Look) -> Look:
    missing = look.verdict.missing | {Missing.STREAM_JOB}
    return replace(look, verdict=replace(look.verdict, missing=missing))


def _needs_watchdog(look: Look, now: datetime) -> bool:
    """Whether something is to be repaired, or an incident is over and nobody has recorded it."""
    spec, state, verdict = look.spec, look.state, look.verdict
    if state is not None and ended(state, verdict, spec.watchdog.silence, now):
        return True
    noted = state is not None and bool(state.incidents) and not state.incidents[-1].recorded
    # Of a silence that somebody else must end, the watchdog takes note once.
    return bool(verdict.missing) if spec.replay is None and noted else needs_repair(verdict)


def _conf(seen_by: str, stream: str, verdict: Verdict) -> dict[str, Any]:
    """What a run of the watchdog is told; Airflow renders it as a template, so nobody's free text may be in it."""
    event = event_of(stream, verdict)
    return {"seen_by": seen_by, **{name: value for name, value in event.items() if name != "detail"}}
