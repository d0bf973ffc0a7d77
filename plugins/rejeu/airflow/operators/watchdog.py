"""The operators of `<stream>.watchdog`: look again, relaunch at the cursor, restore parts, record the incident."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from rejeu.airflow.notify import given_up_text, incident_text, notify
from rejeu.airflow.operators.base import JobOperator, StreamOperator, conf_of
from rejeu.airflow.triggers.events import CALLING
from rejeu.errors import GivenUpError, NothingToRepairError
from rejeu.jobs.build import standby_request, stream_job_request
from rejeu.jobs.request import ReplayRequest, StreamJobRequest
from rejeu.ports import ENDED, Missing
from rejeu.state.launch_lock import LaunchLock
from rejeu.state.lease import read_state
from rejeu.state.model import Incident
from rejeu.timeline import parse_instant
from rejeu.watchdog.incidents import ended, mark_recorded, row_of
from rejeu.watchdog.repair import Seen, claim, note, relaunch_request
from rejeu.watchdog.watch import WatchPlan

if TYPE_CHECKING:
    from airflow.sdk import Context


RUNS: Final = 3
"""How many runs of a watchdog go on at once: one may restore, or wait for the signal, while another one repairs."""


class RelaunchReplay(StreamOperator):
    """Looks again whether the signal is gone, fences the dead replay off, and starts one at its cursor.

    Where no relaunch would help, because somebody else publishes or messages do not arrive, it writes that down.
    Skips where the signal is back, the stream was stopped, or somebody else was first. Fails, and tries no more, where
    relaunches do not help. Its result is the incident as far as known.
    """

    def __init__(self, *, signal_asset: Asset | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.signal_asset = signal_asset

    def execute(self, context: Context) -> dict[str, Any]:
        return self.relaunch(context)

    def relaunch(self, context: Context) -> dict[str, Any]:
        """Relaunch the replay where that is needed; the incident as far as known."""
        now = datetime.now(UTC)
        events = self._events(context)
        with self.alone(context) as lock:
            watch = self.watch(_latest(events, "last_seen"))
            # Where an earlier try failed, for its store's sake perhaps, the replay may have been held up by the same:
            # a lease that stood still then is no proof now.
            watched = _leases(events) if context["ti"].try_number == 1 else frozenset[str]()
            verdict = watch.look_surely(watched)
            if verdict.unsure_seconds > 0:
                raise AirflowSkipException(
                    f"{self.spec.stream}: its replay lives, by a clock that differs from this one's"
                )
            if verdict.signal not in CALLING:
                raise AirflowSkipException(f"{self.spec.stream}: {verdict.signal}: nothing to relaunch")
            detected_at = min(_instants(events, "detected_at", since=verdict.lost_at), default=now)
            seen = Seen(verdict, detected_at, str(context["run_id"]))
            try:
                if self.spec.replay is None or not verdict.signal.needs_relaunch:
                    noted = note(self.store, self.spec.stream, seen)
                    self.mend_topic(context)
                    return noted.model_dump(mode="json")
                claimed = claim(self.store, self.spec.stream, watch.heartbeat, seen, self.spec.watchdog.attempts)
            except NothingToRepairError as error:
                raise AirflowSkipException(str(error)) from None
            except GivenUpError as error:
                notify(context, *given_up_text(self.spec.stream, str(error)))
                raise AirflowFailException(str(error)) from None
            return self._relaunch(context, lock, *claimed).model_dump(mode="json")

    def _relaunch(self, context: Context, lock: LaunchLock, request: ReplayRequest, incident: Incident) -> Incident:
        # One that only fell silent may still exist, paused or cut off: it must be gone before another comes.
        self.stop_replays(request, drain=False)
        self.mend_topic(context)
        lock.confirm()
        state = read_state(self.store, self.spec.stream)
        if state is None or not state.wanted:
            raise AirflowSkipException(f"{self.spec.stream}: stopped on request meanwhile")
        job = self.start_replays(request)
        self.log.warning("%s: %s: relaunch %d: %s", self.spec.stream, incident.cause, incident.attempts, job.detail)
        return incident

    def _events(self, context: Context) -> list[dict[str, Any]]:
        """What the trigger told, or the patrol; several events make one run, some perhaps of the silence before."""
        events = () if self.signal_asset is None else context["triggering_asset_events"].get(self.signal_asset, ())
        told = [event.extra["payload"] for event in events if "payload" in (event.extra or {})]
        return [*told, conf_of(context)] if "seen_by" in conf_of(context) else told


class Restore(JobOperator):
    """Brings back the parts that are missing: the standby, and the streaming job, which it awaits.

    Skips where nothing is missing. A silence that begins meanwhile is repaired by a run of its own.
    """

    def execute(self, context: Context) -> None:
        if (request := self._restore(context)) is not None:
            self.start(context, request)

    def start_missing(self, context: Context) -> None:
        """Start what is missing, and wait for nothing: a streaming job that drains is left to the next look."""
        if (request := self._restore(context)) is not None:
            job = self.jobs.start(request)
            self.log.info("%s: %s is %s (%s)", self.spec.stream, job.name, job.state, job.detail)

    def _restore(self, context: Context) -> StreamJobRequest | None:
        """Bring the standby back where it is missing; the streaming job that is missing is the caller's to start."""
        verdict = self.watch().look(datetime.now(UTC))
        if Missing.STANDBY in verdict.missing:
            with self.alone(context):
                self._restore_standby()
        if WatchPlan.of(self.spec, self.target).wants_job(verdict) and self._job_is_gone():
            self.log.warning("%s: %s", self.spec.stream, Missing.STREAM_JOB)
            self.mend_topic(context)
            return stream_job_request(self.spec, self.target)
        if not verdict.missing:
            raise AirflowSkipException(f"{self.spec.stream}: nothing is missing")
        return None

    def _job_is_gone(self) -> bool:
        job = self.jobs.find(stream_job_request(self.spec, self.target).job_name)
        return job is None or job.state in ENDED

    def _restore_standby(self) -> None:
        """Whoever of the pair lives publishes: the other one is started anew, to stand by."""
        state = read_state(self.store, self.spec.stream)
        if state is None or not state.wanted or not state.request:
            return
        request = relaunch_request(state)
        for twin in (True, False):
            standby = standby_request(request, twin=twin)
            job = self.replays.find(standby.job_name)
            if job is None or job.state in ENDED:
                job = self.start_standby(standby)
                self.log.warning("%s: %s: started %s", self.spec.stream, Missing.STANDBY, job.detail)
                return
        self.log.info("%s: both of the pair run; the one that stands by is on its way", self.spec.stream)


class RecordIncident(StreamOperator):
    """Writes what is over into the table of incidents, one row a silence, and tells it to a person.

    Skips where no silence has ended since.
    """

    def execute(self, context: Context) -> list[dict[str, Any]]:
        return self.record(context)

    def record(self, context: Context) -> list[dict[str, Any]]:
        """Write down what is over; its rows."""
        now = datetime.now(UTC)
        state = read_state(self.store, self.spec.stream)
        verdict = self.watch().look(now)
        incidents = [] if state is None else ended(state, verdict, self.spec.watchdog.silence, now)
        if state is None or not incidents:
            raise AirflowSkipException(f"{self.spec.stream}: no silence has ended: {verdict.signal}")
        rows = [row_of(each, self.spec, state, self.target.launcher) for each in incidents]
        for row in rows:
            self.insert_once(self.target.incidents, row)
        mark_recorded(self.store, self.spec.stream, incidents)
        for row in rows:
            notify(context, *incident_text(row), **row.as_json())
        return [row.as_json() for row in rows]


def _instants(events: list[dict[str, Any]], name: str, since: datetime | None) -> list[datetime]:
    told = [parse_instant(event[name]) for event in events if event.get(name)]
    return [instant for instant in told if since is None or instant >= since]


def _leases(events: list[dict[str, Any]]) -> frozenset[str]:
    """Those that whoever sent these events has watched stand still."""
    return frozenset(event["lease"] for event in events if event.get("lease"))


def _latest(events: list[dict[str, Any]], name: str) -> datetime | None:
    return max(_instants(events, name, since=None), default=None)
