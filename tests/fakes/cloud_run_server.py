"""A Cloud Run of jobs, as small as our launcher needs, on the real wire: gRPC and the service's own messages.

Executions are processes of this machine. It refuses what Cloud Run refuses: wrong names and timeouts, unknown jobs,
stale etags, the cancelling of what has ended, and everything once permission is `denied`.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from google.cloud import run_v2
from google.longrunning import operations_pb2
from google.protobuf import any_pb2

from tests.fakes.processes import Contained

JOB_ID = re.compile(r"projects/[^/]+/locations/[^/]+/jobs/[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LONGEST = timedelta(hours=168)
PAGE = 2
State, Reason = run_v2.Condition.State, run_v2.Condition.ExecutionReason
Code = grpc.StatusCode


class Refusal(Exception):
    """A call that is answered with a status other than OK."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Run:
    """An execution: its tasks have no containers while it waits for its machines."""

    execution: run_v2.Execution
    environments: list[dict[str, str]]
    containers: list[Contained] = field(default_factory=list)
    cancelled: bool = False
    ended: datetime | None = None


class CloudRunServer:
    """Its containers find the modules of `python_path`; while it `holds`, executions wait for their machines."""

    def __init__(self, folder: Path, python_path: str) -> None:
        self.grace = 10.0
        self.denied = False
        self.holds = False
        self.jobs: dict[str, run_v2.Job] = {}
        self.runs: list[Run] = []
        self.received: list[Any] = []
        self.before: dict[type, Callable[[], None]] = {}
        """What happens once, just before a request of that type is served; it may raise a Refusal."""
        self._folder = folder
        self._python_path = python_path
        self._operations: dict[str, operations_pb2.Operation] = {}
        self._lock = threading.RLock()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers(self._services())
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

        self._server.start()

    def close(self) -> None:
        """Answer no more; what runs goes on, as in a cloud that cannot be reached."""
        self._server.stop(None).wait()

    def newest(self, job: str) -> Run:
        return next(run for run in reversed(self.runs) if run.execution.job.endswith(f"/jobs/{job}"))

    def release(self) -> None:
        """Give every execution that waits its machines."""
        with self._lock:
            self.holds = False
            for run in self.runs:
                self._provision(run)

    def asked(self, kind: type) -> list[Any]:
        """The requests of this type, in their order."""
        return [request for request in self.received if isinstance(request, kind)]

    def _services(self) -> tuple[grpc.GenericRpcHandler, ...]:
        rpc, operation = self._method, operations_pb2.Operation
        services = {
            "google.cloud.run.v2.Jobs": {
                "UpdateJob": rpc(self._update_job, run_v2.UpdateJobRequest, operation),
                "ListJobs": rpc(self._list_jobs, run_v2.ListJobsRequest, run_v2.ListJobsResponse),
                "RunJob": rpc(self._run_job, run_v2.RunJobRequest, operation),
            },
            "google.cloud.run.v2.Executions": {
                "GetExecution": rpc(self._get_execution, run_v2.GetExecutionRequest, run_v2.Execution),
                "ListExecutions": rpc(
                    self._list_executions, run_v2.ListExecutionsRequest, run_v2.ListExecutionsResponse
                ),
                "CancelExecution": rpc(self._cancel_execution, run_v2.CancelExecutionRequest, operation),
            },
            "google.cloud.run.v2.Tasks": {
                "ListTasks": rpc(self._list_tasks, run_v2.ListTasksRequest, run_v2.ListTasksResponse)
            },
            "google.longrunning.Operations": {
                "GetOperation": rpc(self._get_operation, operations_pb2.GetOperationRequest, operation)
            },
        }
        return tuple(grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items())

    def _method(self, do: Callable[[Any], Any], asked: Any, answered: Any) -> grpc.RpcMethodHandler:
        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                self.before.pop(type(request), lambda: None)()
                with self._lock:
                    self.received.append(request)
                    if self.denied:
                        raise Refusal(Code.PERMISSION_DENIED, "Permission 'run.jobs.run' denied on resource")
                    return do(request)
            except Refusal as refusal:
                context.abort(refusal.code, str(refusal))

        return grpc.unary_unary_rpc_method_handler(
            serve,
            request_deserializer=getattr(asked, "deserialize", None) or asked.FromString,
            response_serializer=getattr(answered, "serialize", None) or answered.SerializeToString,
        )

    def _update_job(self, request: run_v2.UpdateJobRequest) -> operations_pb2.Operation:
        name, before = request.job.name, self.jobs.get(request.job.name)
        _check(request.job)
        if before is None and not request.allow_missing:
            raise Refusal(Code.NOT_FOUND, f"Resource '{name}' was not found")
        if before is not None:
            _match(before, request.job.etag)
        if before is None or before.template != request.job.template:
            self.jobs[name] = run_v2.Job(request.job)
            self.jobs[name].etag = f'"{uuid.uuid4().hex}"'
        return self._begin(self.jobs[name], done=self.jobs[name])

    def _list_jobs(self, request: run_v2.ListJobsRequest) -> run_v2.ListJobsResponse:
        first = int(request.page_token or 0)
        names = [name for name in self.jobs if name.startswith(f"{request.parent}/jobs/")]
        page, more = names[first : first + PAGE], first + PAGE < len(names)
        listed = [self._with_newest(self.jobs[name]) for name in page]
        return run_v2.ListJobsResponse(jobs=listed, next_page_token=str(first + PAGE) if more else "")

    def _with_newest(self, job: run_v2.Job) -> run_v2.Job:
        """The job as lists show it."""
        shown = run_v2.Job(job)
        runs = [self._seen(run) for run in self.runs if run.execution.job == job.name]
        if runs:
            shown.latest_created_execution = run_v2.ExecutionReference(
                name=runs[-1].name.rpartition("/")[2],
                create_time=runs[-1].create_time,
                completion_time=runs[-1].completion_time,
            )
        return shown

    def _run_job(self, request: run_v2.RunJobRequest) -> operations_pb2.Operation:
        job = self._job(request.name)
        _match(job, request.etag)
        template = run_v2.ExecutionTemplate(job.template)
        for override in request.overrides.container_overrides:
            template.template.containers[0].args = override.args
        execution = run_v2.Execution(
            name=f"{job.name}/executions/{job.name.rpartition('/')[2]}-{uuid.uuid4().hex[:5]}",
            job=job.name,
            annotations=template.annotations,
            template=template.template,
            task_count=template.task_count,
            parallelism=template.parallelism,
            create_time=datetime.now(UTC),
        )
        execution.log_uri = f"https://console.cloud.google.com/logs?execution={execution.name.rpartition('/')[2]}"
        environments = [
            {"CLOUD_RUN_TASK_INDEX": str(index), "CLOUD_RUN_TASK_COUNT": str(template.task_count)}
            for index in range(template.task_count)
        ]
        run = Run(execution, environments)
        self.runs.append(run)
        begun = self._begin(self._seen(run))
        if not self.holds:
            self._provision(run)
        return begun

    def _provision(self, run: Run) -> None:
        if run.containers or run.cancelled:
            return
        container = run.execution.template.containers[0]
        own = {"PYTHONPATH": self._python_path} | {variable.name: variable.value for variable in container.env}
        for environment in run.environments:
            log = self._folder / f"{uuid.uuid4().hex}.log"
            command = [*container.command, *container.args]
            run.containers.append(Contained(command, own | environment, log, ended=lambda: None))

    def _get_execution(self, request: run_v2.GetExecutionRequest) -> run_v2.Execution:
        return self._seen(self._run(request.name))

    def _list_executions(self, request: run_v2.ListExecutionsRequest) -> run_v2.ListExecutionsResponse:
        self._job(request.parent)
        runs = [run for run in reversed(self.runs) if run.execution.job == request.parent]
        page = runs[: request.page_size or 100]
        return run_v2.ListExecutionsResponse(
            executions=[self._seen(run) for run in page], next_page_token="more" if len(page) < len(runs) else ""
        )

    def _cancel_execution(self, request: run_v2.CancelExecutionRequest) -> operations_pb2.Operation:
        run = self._run(request.name)
        if self._seen(run).completion_time is not None:
            raise Refusal(Code.FAILED_PRECONDITION, f"Execution '{request.name}' has already completed")
        run.cancelled = True
        for container in run.containers:
            threading.Thread(target=container.terminate, args=(self.grace,), daemon=True).start()
        return self._begin(self._seen(run))

    def _list_tasks(self, request: run_v2.ListTasksRequest) -> run_v2.ListTasksResponse:
        run = self._run(request.parent)
        results = [_result(container.exit_code) for container in run.containers]
        tasks = [
            run_v2.Task(name=f"{request.parent}/tasks/{index}", index=index, last_attempt_result=result)
            for index, result in enumerate(results)
        ]
        return run_v2.ListTasksResponse(tasks=tasks)

    def _get_operation(self, request: operations_pb2.GetOperationRequest) -> operations_pb2.Operation:
        return self._operations[request.name]

    def _begin(self, metadata: Any, done: Any = None) -> operations_pb2.Operation:
        """An operation that is not over yet when it is first seen."""
        begun = operations_pb2.Operation(name=f"operations/{uuid.uuid4()}", metadata=_packed(metadata))
        over = operations_pb2.Operation()
        over.CopyFrom(begun)
        if done is not None:
            over.done = True
            over.response.CopyFrom(_packed(done))
        self._operations[begun.name] = over
        return begun

    def _job(self, name: str) -> run_v2.Job:
        if name not in self.jobs:
            raise Refusal(Code.NOT_FOUND, f"Resource '{name}' of kind 'JOB' does not exist")
        return self.jobs[name]

    def _run(self, name: str) -> Run:
        for run in self.runs:
            if run.execution.name == name:
                return run
        raise Refusal(Code.NOT_FOUND, f"Resource '{name}' of kind 'EXECUTION' does not exist")

    def _seen(self, run: Run) -> run_v2.Execution:
        """The execution as it is now."""
        codes = [container.exit_code for container in run.containers]
        seen = run_v2.Execution(run.execution)
        seen.running_count = codes.count(None)
        condition = run_v2.Condition(type_="Completed", state=State.CONDITION_RECONCILING)
        seen.conditions = [condition]
        if seen.running_count or not (codes or run.cancelled):
            condition.message = "Waiting for execution to complete."
            if run.cancelled:
                condition.execution_reason = Reason.CANCELLING
        else:
            run.ended = seen.completion_time = run.ended or datetime.now(UTC)
            seen.succeeded_count = codes.count(0)
            failed = seen.task_count - seen.succeeded_count
            seen.cancelled_count, seen.failed_count = (failed, 0) if run.cancelled else (0, failed)
            _conclude(condition, run.cancelled, failed)
        seen.conditions = [condition]
        return seen


def _conclude(condition: run_v2.Condition, cancelled: bool, failed: int) -> None:
    condition.state = State.CONDITION_FAILED
    if cancelled:
        condition.execution_reason, condition.message = Reason.CANCELLED, "Execution was cancelled."
    elif failed:
        condition.execution_reason = Reason.NON_ZERO_EXIT_CODE
        condition.message = "Task failed with message: The container exited with an error."
    else:
        condition.state, condition.message = State.CONDITION_SUCCEEDED, "Execution completed successfully."


def _check(job: run_v2.Job) -> None:
    if not JOB_ID.fullmatch(job.name):
        raise Refusal(Code.INVALID_ARGUMENT, f"Violation in UpdateJobRequest.job.name: {job.name}")
    if job.template.template.timeout > LONGEST:
        raise Refusal(Code.INVALID_ARGUMENT, "task timeout must be at most 168 hours")


def _match(job: run_v2.Job, etag: str) -> None:
    if etag and etag != job.etag:
        raise Refusal(Code.ABORTED, f"Conflict for resource '{job.name}': version '{etag}' was specified")


def _result(code: int | None) -> run_v2.TaskAttemptResult:
    """How Cloud Run tells an exit code from a signal."""
    if code is not None and code > 128:
        return run_v2.TaskAttemptResult(term_signal=code - 128)
    return run_v2.TaskAttemptResult(exit_code=code)


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(type(message).pb(message))
    return packed
