"""The operators of `rejeu.patrol`: look at every stream at once, hear alerts, and forget those that were seen to."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowRuntimeError

from rejeu.airflow.operators.base import GOOGLE_CONNECTION
from rejeu.airflow.triggers import event_of, needs_repair
from rejeu.errors import RejeuError
from rejeu.launchers.choose import job_launcher
from rejeu.ports import Signal, Verdict
from rejeu.spec.model import StreamSpec
from rejeu.state import open_store
from rejeu.state.lease import read_state
from rejeu.state.model import StreamState
from rejeu.target import Target
from rejeu.watchdog.incidents import ended
from rejeu.watchdog.watch import Watch, WatchPlan

if TYPE_CHECKING:
    from airflow.sdk import Context
    from google.cloud.pubsub_v1 import SubscriberClient

    from rejeu.gcp.alerts import Alert

LOOKERS: Final = 8
"""How many streams are looked at side by side: a state store in the cloud takes its time for each."""
UNDER_WAY: Final = ["queued", "running"]


@dataclass(frozen=True)
class Look:
    """What one stream was found to be, and whether its watchdog has something to do about that."""

    stream: str
    verdict: Verdict
    needs_watchdog: bool


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
        looks = [look for look in self._look_at_all(datetime.now(UTC)) if look.needs_watchdog]
        called = {look.stream: _conf("patrol", look.stream, look.verdict) for look in looks}
        for look in looks:
            words = (look.verdict.signal, *sorted(look.verdict.missing), look.verdict.detail)
            self.log.warning("%s: %s", look.stream, "; ".join(filter(None, words)))
        alerts = self._pull() if self.target.alerts else []
        for alert in alerts:
            self.log.warning("alert about %s: %s", alert.topic, alert.summary)
            for stream in self._fed_by(alert):
                called.setdefault(stream, _conf("alert", stream, Verdict(Signal.UNKNOWN)))
        free = [stream for stream in called if self._is_free(context["ti"], stream)]
        if alerts:
            self._divide(context["ti"], alerts, free)
        return [{"trigger_dag_id": _watchdog(stream), "conf": called[stream]} for stream in free]

    def _look_at_all(self, now: datetime) -> list[Look]:
        """Those that can be looked at. Raises RejeuError where none of them can."""

        def look(spec: StreamSpec) -> Look | Exception:
            try:
                return self._look_at(spec, now)
            except Exception as error:  # whatever is wrong with one stream must not hide the others
                self.log.warning("%s: cannot be looked at: %s", spec.stream, error)
                return error

        with ThreadPoolExecutor(LOOKERS) as pool:
            found = list(pool.map(look, self.specs))
        looks = [each for each in found if isinstance(each, Look)]
        if found and not looks:
            raise RejeuError(f"none of {len(found)} streams can be looked at, the first for this: {found[0]}")
        return looks

    def _look_at(self, spec: StreamSpec, now: datetime) -> Look:
        verdict = Watch(WatchPlan.of(spec, self.target), job_launcher(self.target)).look(now)
        state = read_state(open_store(self.target.state), spec.stream)
        return Look(spec.stream, verdict, needs_watchdog=_needs_watchdog(spec, state, verdict, now))

    def _pull(self) -> list[Alert]:
        from rejeu.gcp.alerts import pull_alerts

        with self._unhindered():
            return pull_alerts(self.subscriber(), self.subscription)
        return []

    def _fed_by(self, alert: Alert) -> list[str]:
        return [spec.stream for spec in self.specs if spec.live.topic == alert.topic]

    def _is_free(self, ti: Any, stream: str) -> bool:
        """Whether one more run of the stream's watchdog would do anything."""
        try:
            if ti.get_dag(_watchdog(stream)).is_paused:
                self.log.warning("%s: it needs its watchdog, which is paused", stream)
                return False
            return bool(ti.get_dr_count(_watchdog(stream), states=UNDER_WAY) == 0)
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


def _needs_watchdog(spec: StreamSpec, state: StreamState | None, verdict: Verdict, now: datetime) -> bool:
    """Whether something is to be repaired, or an incident is over and nobody has recorded it."""
    if state is not None and ended(state, verdict, spec.watchdog.silence, now):
        return True
    noted = state is not None and bool(state.incidents) and not state.incidents[-1].recorded
    # Of a silence that somebody else must end, the watchdog takes note once.
    return bool(verdict.missing) if spec.replay is None and noted else needs_repair(verdict)


def _conf(seen_by: str, stream: str, verdict: Verdict) -> dict[str, Any]:
    """What a run of the watchdog is told; Airflow renders it as a template, so nobody's free text may be in it."""
    event = event_of(stream, verdict)
    return {"seen_by": seen_by, **{name: value for name, value in event.items() if name != "detail"}}
