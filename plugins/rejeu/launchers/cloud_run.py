"""A launcher of Cloud Run jobs: one Job resource for each name, one execution for each start."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

from rejeu.errors import LaunchError
from rejeu.gcp.clients import cloud_run_client
from rejeu.launchers.google_calls import CALL_SECONDS, asking, patient
from rejeu.launchers.names import ALL_JOBS, short_name
from rejeu.launchers.waiting import look_until
from rejeu.ports import ENDED, Job, JobRequest, JobState
from rejeu.target import LauncherKind, Target

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud import run_v2

NAME_LIMIT: Final = 63
PAGE_SIZE: Final = 1000
TASK_TIMEOUT: Final = timedelta(days=7)
"""The longest that Cloud Run lets a task run; the default is 10 minutes."""
JOB_ANNOTATION: Final = "rejeu-job"
STARTER_ANNOTATION: Final = "rejeu-starter"
ROLES: Final = "roles/run.developer, and roles/iam.serviceAccountUser on the job's service account"

STARTS: Final = 3
DECLARE_SECONDS: Final = 60.0
CLAIM_SECONDS: Final = 20.0
"""How long the last starter that declared a job may take to run it before another one declares it again."""
STOP_SECONDS: Final = 60.0


@dataclass(frozen=True)
class CloudRunLauncher:
    """Runs `python -m <module> <argv>` as an execution of a Cloud Run job, with the argv as its override.

    Two starters never make two executions, though Cloud Run has no lock: each first declares the job, with a mark of
    its own that gives the job a new etag, and may then run only that version (RunJobRequest.etag). If another starter
    has declared the job since, the run is refused, and the starter adopts the other's execution. A starter that dies
    between the two steps blocks nobody. The stream's lease is the last guard.

    Cloud Run does not return what a job prints: one with a `ready_text` counts as running when its container does.
    It sometimes moves a task to another machine, and pauses it meanwhile. With several `tasks`, each finds its shard
    in CLOUD_RUN_TASK_INDEX and CLOUD_RUN_TASK_COUNT.

    Every method raises LaunchError where Cloud Run refuses, or does not answer for `patience` seconds.
    """

    project: str
    region: str
    image: str
    service_account: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    tasks: int = 1
    cpu: str = "1"
    memory: str = "2Gi"
    patience: float = 10.0

    def start(self, request: JobRequest) -> Job:
        from google.api_core.exceptions import Conflict, FailedPrecondition

        name = request.job_name
        with self._asking(name):
            for _ in range(STARTS - 1):
                with suppress(Conflict, FailedPrecondition):
                    return self._running(name) or self._run(request)
                # Another starter declared the job after us: that one runs it.
                if (adopted := look_until(lambda: self._running(name), CLAIM_SECONDS)) is not None:
                    return adopted
            return self._running(name) or self._run(request)

    def find(self, name: str) -> Job | None:
        from google.api_core.exceptions import NotFound
        from google.cloud.run_v2 import ListExecutionsRequest

        newest_only = ListExecutionsRequest(parent=self._path(name), page_size=1)
        with self._asking(name):
            try:
                page = self._executions.list_executions(newest_only, retry=self._retry, timeout=CALL_SECONDS)
            except NotFound:
                return None
            newest = next(iter(page), None)  # they come sorted, the newest first
            if newest is None or newest.annotations.get(JOB_ANNOTATION) != name:
                return None
            return self._describe(name, newest)

    def find_active(self, names: Collection[str]) -> dict[str, Job]:
        """The list of jobs, which names the newest execution of each and how that ended."""
        from google.cloud.run_v2 import ListJobsRequest

        question = ListJobsRequest(parent=self._parent, page_size=PAGE_SIZE)
        with self._asking(ALL_JOBS):
            listed = list(self._jobs.list_jobs(question, retry=self._retry, timeout=CALL_SECONDS))
        active: dict[str, Job] = {}
        for each in listed:
            name, newest = each.template.annotations.get(JOB_ANNOTATION), each.latest_created_execution
            if name in names and newest.name and newest.completion_time is None:
                active[name] = Job(name, f"{each.name}/executions/{newest.name.rpartition('/')[2]}", JobState.RUNNING)
        return active

    def stop(self, name: str, *, drain: bool = True) -> Job | None:
        """Cancel the execution: Cloud Run sends SIGTERM, and SIGKILL 10 s later; it cannot end one sooner.

        So `drain` makes no difference: a job has 10 s to finish what is under way.
        """
        from google.api_core.exceptions import Conflict, FailedPrecondition

        job = self.find(name)
        if job is None or job.state in ENDED:
            return job
        with self._asking(name):
            with suppress(Conflict, FailedPrecondition):  # it has just ended
                self._executions.cancel_execution(name=job.id, timeout=CALL_SECONDS)
            ended = look_until(lambda: self._ended(name, job.id), STOP_SECONDS)
        if ended is None:
            rule = f"{name} still runs {STOP_SECONDS:.0f} s after it was cancelled: it must end within 10 s"
            raise LaunchError(f"{rule}: {job.detail}. Delete the execution {job.id}")
        return ended

    def _running(self, name: str) -> Job | None:
        job = self.find(name)
        return None if job is None or job.state in ENDED else job

    def _ended(self, name: str, execution: str) -> Job | None:
        seen = self._executions.get_execution(name=execution, retry=self._retry, timeout=CALL_SECONDS)
        job = self._describe(name, seen)
        return job if job.state in ENDED else None

    def _run(self, request: JobRequest) -> Job:
        """Declare the job and run it. Raises Conflict where another starter declared it after us."""
        from google.cloud.run_v2 import RunJobRequest

        argv = RunJobRequest.Overrides.ContainerOverride(args=[*request.to_argv()])
        run = RunJobRequest(
            name=self._path(request.job_name),
            etag=self._declare(request),
            overrides=RunJobRequest.Overrides(container_overrides=[argv]),
        )
        # A starter that declared it before us has run it by now, or will be refused.
        if (running := self._running(request.job_name)) is not None:
            return running
        execution: run_v2.Execution = self._jobs.run_job(run, timeout=CALL_SECONDS).metadata
        return self._describe(request.job_name, execution)

    def _declare(self, request: JobRequest) -> str:
        """Create the job, or replace it; returns its etag."""
        from google.cloud.run_v2 import UpdateJobRequest

        update = UpdateJobRequest(job=self._declaration(request), allow_missing=True)
        return str(self._jobs.update_job(update, timeout=CALL_SECONDS).result(timeout=DECLARE_SECONDS).etag)

    def _declaration(self, request: JobRequest) -> run_v2.Job:
        from google.cloud import run_v2

        container = run_v2.Container(
            image=self.image,
            command=["python", "-m", request.module],
            env=[run_v2.EnvVar(name=name, value=value) for name, value in self.environment.items()],
            resources=run_v2.ResourceRequirements(limits={"cpu": self.cpu, "memory": self.memory}),
        )
        task = run_v2.TaskTemplate(
            containers=[container],
            timeout=TASK_TIMEOUT,
            # The default is 3, but the watchdog decides what is started again, and where.
            max_retries=0,
            service_account=self.service_account,
        )
        execution = run_v2.ExecutionTemplate(
            annotations={JOB_ANNOTATION: request.job_name, STARTER_ANNOTATION: uuid.uuid4().hex},
            parallelism=self.tasks,
            task_count=self.tasks,
            template=task,
        )
        return run_v2.Job(name=self._path(request.job_name), template=execution)

    def _describe(self, name: str, execution: run_v2.Execution) -> Job:
        from google.cloud.run_v2 import Condition

        completed = next((each for each in execution.conditions if each.type_ == "Completed"), Condition())
        message = completed.message
        if execution.completion_time is None and completed.execution_reason is Condition.ExecutionReason.CANCELLING:
            state = JobState.DRAINING
        elif execution.completion_time is None:
            state = JobState.RUNNING if execution.running_count else JobState.STARTING
        elif execution.cancelled_count or completed.execution_reason is Condition.ExecutionReason.CANCELLED:
            state = JobState.STOPPED
        elif execution.succeeded_count == execution.task_count:
            state = JobState.SUCCEEDED
        else:
            state = JobState.FAILED
            message = f"{self._exit(execution.name)}: {message}"
        detail = f"{message} (logs {execution.log_uri})".lstrip()
        # Requests always have arguments: where Cloud Run shows none, it does not say.
        argv = next((tuple(each.args) for each in execution.template.containers if each.args), None)
        return Job(name, execution.name, state, detail, argv=argv)

    def _exit(self, execution: str) -> str:
        """How the first failed task ended."""
        for task in self._tasks.list_tasks(parent=execution, retry=self._retry, timeout=CALL_SECONDS):
            result = task.last_attempt_result
            if result.term_signal:
                return f"signal {result.term_signal}"
            if result.exit_code:
                return f"exit code {result.exit_code}"
        return "exit code unknown"

    @cached_property
    def _jobs(self) -> run_v2.JobsClient:
        from google.cloud.run_v2 import JobsClient

        return cloud_run_client(JobsClient)

    @cached_property
    def _executions(self) -> run_v2.ExecutionsClient:
        from google.cloud.run_v2 import ExecutionsClient

        return cloud_run_client(ExecutionsClient)

    @cached_property
    def _tasks(self) -> run_v2.TasksClient:
        from google.cloud.run_v2 import TasksClient

        return cloud_run_client(TasksClient)

    @property
    def _retry(self) -> Retry:
        return patient(self.patience)

    @property
    def _parent(self) -> str:
        return f"projects/{self.project}/locations/{self.region}"

    def _path(self, name: str) -> str:
        return f"{self._parent}/jobs/{short_name(name, NAME_LIMIT)}"

    def _asking(self, name: str) -> AbstractContextManager[None]:
        return asking(name, f"Cloud Run in {self.project}, {self.region}", ROLES)


def _make(target: Target, environment: Mapping[str, str]) -> CloudRunLauncher:
    account = target.service_account or None
    return CloudRunLauncher(target.project, target.region, target.image, account, cpu=target.cpu, memory=target.memory)


LAUNCHER = LauncherKind(
    _make,
    needs=("image", "region", "bucket", "jobs_image"),
    elsewhere=True,
    runs_jobs=True,
    emulator="CLOUD_RUN_EMULATOR_HOST",
)
