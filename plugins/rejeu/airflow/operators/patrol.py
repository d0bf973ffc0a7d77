"""The operators of `rejeu.patrol`: look at every stream at once, hear alerts, and forget those that were seen to."""

from __future__ import annotations

import inspect
import random
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowRuntimeError, AirflowSkipException

from rejeu.airflow.google import google_hook
from rejeu.airflow.notify import notify, orphaned_text
from rejeu.airflow.operators.watchdog import RUNS, RecordIncident, RelaunchReplay, Restore
from rejeu.airflow.triggers.events import event_of, needs_repair
from rejeu.errors import RejeuError, StateError
from rejeu.launchers.choose import job_launcher
from rejeu.orphans.finding import live_orphans
from rejeu.orphans.telling import to_be_told
from rejeu.ports import Job, Missing, Signal, StateStore, Verdict
from rejeu.spec.files import load_specs
from rejeu.spec.model import StreamSpec
from rejeu.spec.names import number_of
from rejeu.state import open_store
from rejeu.state.documents import SideDocument
from rejeu.state.lease import read_state
from rejeu.state.live_record import read_record, remember_live, spec_of
from rejeu.state.model import StreamState
from rejeu.state.watch_note import blind_watches
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
MOST_CALLED: Final = 1_000
"""How many watchdogs one look calls: Airflow maps a result of up to 1,024 entries (`max_map_length`)."""
UNDER_WAY: Final = ["queued", "running"]
ORPHAN: Final = "orphan"
"""The key of an entry that is about a stream without a spec."""


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
        super().__init__(**{"doc_md": inspect.getdoc(type(self)), **kwargs})

    @cached_property
    def target(self) -> Target:
        return Target.from_env()

    @cached_property
    def store(self) -> StateStore:
        return open_store(self.target.state)

    @property
    def subscription(self) -> str:
        """Where alerts arrive."""
        return self.target.subscription(self.target.alerts)

    def subscriber(self) -> SubscriberClient:
        """A client with the credentials of the Airflow connection."""
        from airflow.providers.google.cloud.hooks.pubsub import PubSubHook

        return google_hook(PubSubHook).subscriber_client


class LookAround(PatrolOperator):
    """Looks at every stream as its watchdog would, and says which watchdogs have something to do.

    It also looks at the streams that are wanted and have no valid spec, by the one that they went live with, and tells
    a person of them once a day. Its result is one entry for each watchdog, and for each such stream, that has something
    to do. A watchdog that is paused, or at work already, is left alone.
    """

    def __init__(self, *, folders: Sequence[Path], number: int = 0, of: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folders = tuple(folders)
        self.number = number
        self.of = of

    @cached_property
    def specs(self) -> list[StreamSpec]:
        """Every valid spec, of other parts too: read here, for while DAGs are parsed a spec could break this one."""
        return [loaded.spec for loaded in load_specs(self.folders) if loaded.spec is not None]

    def execute(self, context: Context) -> list[dict[str, Any]]:
        now = datetime.now(UTC)
        if self.number == 0:
            self._tell_blind()
        looks = self._needy([spec for spec in self.specs if self._is_ours(spec.stream)], now)
        called = {look.stream: _conf("patrol", look.stream, look.verdict) for look in looks}
        alerts = self._pull() if self.target.alerts and self.number == 0 else []
        for alert in alerts:
            self.log.warning("alert about %s: %s", alert.topic, alert.summary)
            for stream in self._fed_by(alert):
                called.setdefault(stream, _conf("alert", stream, Verdict(Signal.UNKNOWN)))
        silent = {look.stream for look in looks if look.verdict.signal.needs_relaunch}
        free = self._free(context["ti"], sorted(called, key=lambda stream: stream not in silent), silent)
        if alerts:
            self._divide(context["ti"], alerts, free)
        runs: list[dict[str, Any]] = [{"trigger_dag_id": _watchdog(stream), "conf": called[stream]} for stream in free]
        orphans = self._orphans(context, now)
        return [*runs, *({ORPHAN: stream} for stream in orphans)][:MOST_CALLED]

    def _tell_blind(self) -> None:
        """Say which watches in the triggerer cannot look: until they can, only this patrol sees a silence there."""
        try:
            for words in blind_watches(self.store, self.store.names()):
                self.log.error("%s", words)
        except StateError as error:
            self.log.error("whether a watch cannot look is not known: %s", error)

    def _orphans(self, context: Context, now: datetime) -> list[str]:
        """The wanted streams without a valid spec that need a repair; those that a person must know of are told."""
        try:
            self._remember_those_before()
            orphans = [stream for stream in live_orphans(self.store, self._declared) if self._is_ours(stream)]
            wanted = [stream for stream in orphans if self._is_wanted(stream)]
            self._tell(context, wanted, now)
            looks = self._needy([spec for stream in wanted if (spec := self._spec_of(stream)) is not None], now)
        except RejeuError as error:  # what has a spec is not kept waiting
            self.log.error("streams without a spec cannot be looked at: %s", error)
            return []
        return [look.stream for look in looks if not self._is_paused(context["ti"], look.stream)]

    def _tell(self, context: Context, orphans: Sequence[str], now: datetime) -> None:
        """Tell a person of those that are due; whatever keeps that from being known, they are repaired."""
        try:
            told = to_be_told(self.store, orphans, now)
        except StateError as error:
            self.log.error("nobody is told of streams without a spec (%s): %s", ", ".join(orphans) or "none", error)
            return
        if told:
            notify(context, *orphaned_text(told), streams=told)

    def _remember_those_before(self) -> None:
        """A stream that an older Rejeu brought live gets the record that it needs once its spec breaks."""
        names = set(self.store.names())
        for spec in self.specs:
            has_record = SideDocument.LIVE.of(spec.stream) in names
            if spec.stream in names and self._is_ours(spec.stream) and not has_record and self._is_wanted(spec.stream):
                remember_live(self.store, spec, self.target)

    @property
    def _declared(self) -> set[str]:
        return {spec.stream for spec in self.specs}

    def _is_wanted(self, stream: str) -> bool:
        try:
            state = read_state(self.store, stream)
        except StateError as error:
            self.log.error("%s: whether it is wanted is not known: %s", stream, error)
            return False
        return state is not None and state.wanted

    def _spec_of(self, stream: str) -> StreamSpec | None:
        """The spec that the stream went live with; None where this Rejeu cannot read it."""
        try:
            record = read_record(self.store, stream)
            return None if record is None else spec_of(record)
        except StateError as error:
            self.log.error("%s has no valid spec, and cannot be repaired: %s", stream, error)
            return None

    def _is_paused(self, ti: Any, stream: str) -> bool:
        """Whether somebody had paused the watchdog that the stream had while it had a spec."""
        try:
            return bool(ti.get_dag(_watchdog(stream)).is_paused)
        except AirflowRuntimeError:  # Airflow has forgotten it
            return False

    def _needy(self, specs: Sequence[StreamSpec], now: datetime) -> list[Look]:
        """The streams whose watchdog has something to do, each told in the log."""
        if not specs:
            return []
        plans = [WatchPlan.of(spec, self.target) for spec in specs]
        jobs = asked_apart(lambda: self._active([plan.job_name for plan in plans]))
        found = self._with_jobs(self._look_at_all(specs, plans, now), jobs)
        looks = [look for look in found if _needs_watchdog(look, now)]
        for look in looks:
            words = (look.verdict.signal, *sorted(look.verdict.missing), look.verdict.detail)
            self.log.warning("%s: %s", look.stream, "; ".join(filter(None, words)))
        return looks

    def _look_at_all(self, specs: Sequence[StreamSpec], plans: Sequence[WatchPlan], now: datetime) -> list[Look]:
        """Those that can be looked at in time. Raises RejeuError where none of them can."""

        def look(spec: StreamSpec, plan: WatchPlan) -> Look | Exception:
            try:
                verdict = Watch(plan).look(now)
                return Look(spec, plan, read_state(self.store, spec.stream), verdict)
            except Exception as error:  # whatever is wrong with one stream must not hide the others
                self.log.error("%s: cannot be looked at, so no silence is seen: %s", spec.stream, error)
                return error

        pool = ThreadPoolExecutor(LOOKERS)
        # Not always in the same order: where time is short, the same ones would never be looked at.
        pairs = [*zip(specs, plans, strict=True)]
        tried = {spec.stream: pool.submit(look, spec, plan) for spec, plan in random.sample(pairs, len(pairs))}
        late = wait(tried.values(), LOOK_SECONDS).not_done
        pool.shutdown(wait=False, cancel_futures=True)
        if late:
            self.log.error("%d of %d streams were not looked at within %g s", len(late), len(tried), LOOK_SECONDS)
        in_time = [tried[spec.stream] for spec in specs if tried[spec.stream] not in late]
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

    def _is_ours(self, stream: str) -> bool:
        """Whether the stream falls to this look, where several share the work."""
        return number_of(stream, self.of) == self.number

    def _free(self, ti: Any, called: Sequence[str], silent: Collection[str]) -> list[str]:
        """The first of them whose watchdogs may run, as many as Airflow makes tasks of; the others wait a minute."""
        free = (stream for stream in called if self._is_free(ti, stream, is_silent=stream in silent))
        found = list(islice(free, MOST_CALLED))
        if len(found) == MOST_CALLED < len(called):
            self.log.error("%d watchdogs are called, of up to %d: the others wait", MOST_CALLED, len(called))
        return found

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


class RepairOrphan(PatrolOperator):
    """Does for a wanted stream without a valid spec what its watchdog would do, by the spec that it went live with.

    A replay that is gone goes on at its cursor with the arguments that are stored with it; a standby and a streaming
    job that are gone are started, and not waited for; an incident that is over is recorded.
    """

    def __init__(self, *, stream: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stream = stream

    def execute(self, context: Context) -> None:
        record = read_record(self.store, self.stream)
        if record is None:
            raise AirflowSkipException(f"{self.stream}: it was removed meanwhile")
        spec = spec_of(record)
        # Its record comes first: a relaunch that is given up fails the task.
        for step in (
            RecordIncident(task_id="record_incident", spec=spec).record,
            RelaunchReplay(task_id="relaunch", spec=spec).relaunch,
            Restore(task_id="restore", spec=spec).start_missing,
        ):
            with suppress(AirflowSkipException):
                step(context)


def watchdog_run(entry: dict[str, Any]) -> dict[str, Any]:
    """What an entry of the look's result has the watchdog do."""
    if ORPHAN in entry:
        raise AirflowSkipException(f"{entry[ORPHAN]} has no watchdog")
    return entry


def orphan(entry: dict[str, Any]) -> str:
    """The stream without a spec that an entry of the look's result is about."""
    if ORPHAN not in entry:
        raise AirflowSkipException(f"{entry['trigger_dag_id']} sees to it")
    return str(entry[ORPHAN])


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
