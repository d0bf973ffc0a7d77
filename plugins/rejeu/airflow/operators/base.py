"""What every operator of ours has: the spec, the target, the state store, the launcher and Google's clients."""

from __future__ import annotations

import inspect
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from rejeu.airflow.triggers import JobTrigger
from rejeu.errors import LaunchError
from rejeu.live import standby_request
from rejeu.ports import ENDED, Job, JobRequest, JobState, Launcher, StateStore
from rejeu.request import ReplayRequest
from rejeu.spec import StreamSpec
from rejeu.state import open_store
from rejeu.target import Target

if TYPE_CHECKING:
    from airflow.sdk import Context
    from google.cloud import bigquery

GOOGLE_CONNECTION = "google_cloud_default"


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
        return self.target.replay_launcher()

    @cached_property
    def jobs(self) -> Launcher:
        """What starts Beam's jobs."""
        return self.target.job_launcher()

    def start_replays(self, request: ReplayRequest) -> Job:
        """The replay, and the one that stands by for it where the spec wants one."""
        job = self.replays.start(request)
        if self.spec.replay.standby:
            self.replays.start(standby_request(request))
        return job

    def stop_replays(self, request: ReplayRequest, *, drain: bool = True) -> None:
        """Both of them, and the one that stands by first: it would take over."""
        for each in (standby_request(request), request):
            self.replays.stop(each.job_name, drain=drain)

    def bigquery(self) -> bigquery.Client:
        """A client with the credentials of the Airflow connection."""
        from airflow.providers.google.cloud.hooks.bigquery import BigQueryHook

        return BigQueryHook(gcp_conn_id=GOOGLE_CONNECTION).get_client(project_id=self.target.project)


class JobOperator(StreamOperator):
    """Starts a job, or adopts the one that runs, and waits for it without a worker slot.

    Safe when its worker dies: a job is known by its name, so a second try finds the first one's job. When a person
    ends the task, the job is stopped.
    """

    limit = timedelta(minutes=30)
    awaited = JobState.RUNNING
    """The state that the task waits for; a job that ends in another one has failed the task."""

    def start(self, request: JobRequest) -> None:
        """Start the job and defer until it is in the awaited state."""
        job = self.jobs.start(request)
        self.log.info("%s: %s is %s (%s)", self.spec.stream, job.name, job.state, job.detail)
        self.await_job(job)

    def await_job(self, job: Job) -> None:
        self.job_name = job.name
        if not self._arrived(job):
            trigger = JobTrigger(name=job.name, awaited=self.awaited)
            self.defer(trigger=trigger, method_name="resume", timeout=self.limit)

    def resume(self, context: Context, event: dict[str, str]) -> Any:
        """The trigger saw the job where it was awaited, or ended. Raises LaunchError with the job's own detail."""
        self._arrived(Job(event["name"], event["id"], JobState(event["state"]), event["detail"]))
        return self.finish(context)

    def finish(self, context: Context) -> Any:
        """The task's result once the job is where it was awaited."""

    def on_kill(self) -> None:
        if getattr(self, "job_name", None):
            self.jobs.stop(self.job_name)

    def _arrived(self, job: Job) -> bool:
        if job.state in ENDED and job.state is not self.awaited:
            raise LaunchError(f"{job.name} is {job.state}, and should be {self.awaited}: {job.detail}")
        return job.state is self.awaited
