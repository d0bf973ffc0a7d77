"""What every operator of ours has: the spec, the target, the state store, the launcher and Google's clients."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from rejeu.airflow.google import google_hook
from rejeu.airflow.triggers import AwaitedJob, DrainedJob, DrainTrigger, JobTrigger
from rejeu.airflow.triggers.base import first_event
from rejeu.bigquery import sql
from rejeu.bigquery.records import Record
from rejeu.errors import LaunchError, RejeuError
from rejeu.jobs.build import standby_request
from rejeu.jobs.request import ReplayRequest
from rejeu.launchers.choose import job_launcher, replay_launcher
from rejeu.ports import ENDED, Job, JobRequest, JobState, Launcher, StateStore
from rejeu.spec.model import StreamSpec
from rejeu.spec.probes import PROBES
from rejeu.state import open_store
from rejeu.state.launch_lock import LaunchLock, hold_launch_lock
from rejeu.state.lease import read_state
from rejeu.state.standby_marker import mark_standby
from rejeu.target import KEPT, Left, Target
from rejeu.watchdog.repair import note_loss
from rejeu.watchdog.watch import Watch, WatchPlan

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger
    from google.cloud import bigquery

DRAIN_LIMIT = timedelta(minutes=30)
PATROL_LIMIT = timedelta(seconds=60)
"""How long a run that the patrol called holds a worker slot to wait."""


class StreamOperator(BaseOperator):
    """A task about one stream. What its class says of itself is what the task's page shows."""

    def __init__(self, *, spec: StreamSpec, **kwargs: Any) -> None:
        super().__init__(doc_md=inspect.getdoc(type(self)), **kwargs)
        self.spec = spec

    @cached_property
    def target(self) -> Target:
        return Target.from_env()

    @cached_property
    def store(self) -> StateStore:
        return open_store(self.target.state)

    @cached_property
    def replays(self) -> Launcher:
        """What starts replays."""
        return replay_launcher(self.target)

    @cached_property
    def jobs(self) -> Launcher:
        """What starts Beam's jobs."""
        return job_launcher(self.target)

    def start_replays(self, request: ReplayRequest) -> Job:
        """Start the replay, and its standby where the spec wants one.

        Raises LaunchError where another one runs by then: its start would be taken for this one.
        """
        job = self._start_replay(request)
        wanted = tuple(request.to_argv())
        if job.argv is not None and job.argv != wanted:
            flags = ", ".join(sorted({word.partition("=")[0] for word in {*job.argv} ^ {*wanted}}))
            raise LaunchError(
                f"{self.spec.stream}: {job.name} runs already, with another {flags or 'order of flags'} than is wanted "
                f"now: somebody else has started it; stop it, or run this task again ({job.detail})"
            )
        if self.spec.replay is not None and self.spec.replay.standby:
            self.start_standby(standby_request(request))
        return job

    def start_standby(self, request: ReplayRequest) -> Job:
        """Start the standby, and say that it is coming: no watchdog takes it for missing until then."""
        mark_standby(self.store, request.state_name, request.job_name, datetime.now(UTC) + self.spec.watchdog.grace)
        return self._start_replay(request)

    def _start_replay(self, request: ReplayRequest) -> Job:
        """Start it; one that somebody else stops just now, as a person at a terminal may, is awaited first."""
        job = self.replays.start(request)
        if job.state is JobState.DRAINING:
            self.replays.stop(request.job_name)
            job = self.replays.start(request)
        return job

    def stop_replays(self, request: ReplayRequest, *, drain: bool = True) -> None:
        """Stop both of a pair. The standby goes first, or it would take over."""
        for each in (standby_request(request), request):
            self.replays.stop(each.job_name, drain=drain)

    def alone(self, context: Context) -> AbstractContextManager[LaunchLock]:
        """Hold the launch lock: nobody else starts or stops the stream's replays meanwhile.

        Whoever stops some before it starts others confirms the lock in between: a stop may take its time.
        """
        who = f"{context['run_id']}/{self.task_id}"
        return hold_launch_lock(self.store, self.spec.stream, who)

    def watch(self, last_seen: datetime | None = None) -> Watch:
        """What the watchdog looks through; the streaming job is nothing to it."""
        return Watch(WatchPlan.of(self.spec, self.target), last_seen=last_seen)

    def insert_once(self, table: str, row: Record) -> None:
        """Write a row into a table of Rejeu's own, unless one of its key is there."""
        from google.cloud import bigquery

        values, columns = row.model_dump(), row.columns()
        parameters = [bigquery.ScalarQueryParameter(each.name, each.type, values[each.name]) for each in columns]
        job_config = bigquery.QueryJobConfig(query_parameters=parameters)
        statement = sql.insert_once(table, [each.name for each in columns], row.KEY)
        self.bigquery().query(statement, job_config=job_config).result()

    def ensure_topic(self, context: Context) -> None:
        """Make what is missing of topic and subscriptions, and mend what differs; rows that may be lost are told.

        Raises RequestError where what exists cannot serve the stream.
        """
        from airflow.providers.google.cloud.hooks.pubsub import PubSubHook

        from rejeu.gcp.topics import ensure_topic

        hook = google_hook(PubSubHook)
        lost = ensure_topic(hook.get_conn(), hook.subscriber_client, self.spec, self.target)
        if lost:
            self.log.warning("%s: %s", self.spec.stream, lost)
            # A stream that never ran has lost nothing that anybody awaited.
            if read_state(self.store, self.spec.stream) is not None:
                note_loss(self.store, self.spec.stream, lost, str(context["run_id"]))
        if any(PROBES[name].needs_tap for name in self.spec.watchdog.probe):
            from rejeu.gcp.topics import ensure_tap

            ensure_tap(hook.subscriber_client, self.spec, self.target)

    def mend_topic(self, context: Context) -> None:
        """Make sure of the topic as far as that can be had: nothing about it keeps a part from being brought back."""
        try:
            self.ensure_topic(context)
        except Exception as error:
            self.log.warning("%s: the topic was not looked at: %s", self.spec.stream, error)

    def forget_old(self, kind: Left) -> None:
        """Remove what the stream's jobs left long ago; where that cannot be done, the task's own work goes on."""
        from rejeu.gcp.folders import remove_files

        folder = f"{self.target.left_by(kind)}/{self.spec.stream}"
        try:
            removed = remove_files(folder, before=datetime.now(UTC) - KEPT)
        except RejeuError as error:
            self.log.warning(
                "%s: what is older than %s days stays in %s: %s", self.spec.stream, KEPT.days, folder, error
            )
            return
        if removed:
            self.log.info(
                "%s: removed %s files from %s, older than %s days", self.spec.stream, removed, folder, KEPT.days
            )

    def bigquery(self) -> bigquery.Client:
        """A client with the credentials of the Airflow connection."""
        from airflow.providers.google.cloud.hooks.bigquery import BigQueryHook

        client: bigquery.Client = google_hook(BigQueryHook).get_client(project_id=self.target.project)
        return client


class WaitingOperator(StreamOperator):
    """Waits for a trigger's event without a worker slot.

    A run that the patrol called waits in its worker: as a rule the triggerer is dead then.
    """

    def wait(self, context: Context, trigger: BaseTrigger, limit: timedelta, then: str = "resume") -> Any:
        """Go on with the method `then` when the trigger has fired. Raises TimeoutError where it did not in time."""
        if "seen_by" not in conf_of(context):
            self.defer(trigger=trigger, method_name=then, timeout=limit)
        return getattr(self, then)(context, asyncio.run(first_event(trigger, PATROL_LIMIT)))

    def resume(self, context: Context, event: dict[str, Any]) -> Any:
        """What the task does with the event."""
        raise NotImplementedError


class JobOperator(WaitingOperator):
    """Starts a job, or adopts the one that runs, and waits for it without a worker slot. One that drains is awaited
    first: adopted, it would take nothing on and end.

    Safe when its worker dies: a job is known by its name, so a second try finds the first one's job. When a person
    ends the task, a job that ends by itself is stopped; a streaming job goes on, for the stream may live by it.
    """

    limit = timedelta(minutes=30)
    awaited = JobState.RUNNING
    """The state that the task waits for; a job that ends in another one has failed the task."""

    def start(self, context: Context, request: JobRequest) -> Any:
        """Start the job; the task's result once it is in the awaited state."""
        job = self.jobs.start(request)
        self.log.info("%s: %s is %s (%s)", self.spec.stream, job.name, job.state, job.detail)
        if job.state is JobState.DRAINING:
            return self.wait(context, DrainTrigger.of(DrainedJob(name=job.name)), DRAIN_LIMIT, then="start_afresh")
        self.job_name = job.name
        if self._arrived(job):
            return self.finish(context)
        return self.wait(context, JobTrigger.of(AwaitedJob(name=job.name, awaited=self.awaited)), self.limit)

    def start_afresh(self, context: Context, event: dict[str, str]) -> Any:
        """The job that drained has ended: do the task once more. Raises LaunchError where it does not end."""
        if "error" in event:
            raise LaunchError(event["error"])
        return self.execute(context)

    def resume(self, context: Context, event: dict[str, str]) -> Any:
        """The trigger saw the job where it was awaited, or ended. Raises LaunchError with the job's own detail."""
        self._arrived(Job(event["name"], event["id"], JobState(event["state"]), event["detail"]))
        return self.finish(context)

    def finish(self, context: Context) -> Any:
        """The task's result once the job is where it was awaited."""

    def on_kill(self) -> None:
        if getattr(self, "job_name", None) and self.awaited in ENDED:
            self.jobs.stop(self.job_name)

    def _arrived(self, job: Job) -> bool:
        if job.state in ENDED and job.state is not self.awaited:
            raise LaunchError(
                f"{job.detail or 'it gave no reason'} ({job.name} is {job.state}, and should be {self.awaited})"
            )
        return job.state is self.awaited


def conf_of(context: Context) -> dict[str, Any]:
    """What the run was told by whoever triggered it."""
    return getattr(context.get("dag_run"), "conf", None) or {}
