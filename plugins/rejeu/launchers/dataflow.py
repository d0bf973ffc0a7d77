"""A launcher of Dataflow jobs from a flex template, over REST for the same reason as Vertex AI's launcher."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from rejeu.errors import LaunchError
from rejeu.gcp.clients import dataflow_endpoint, dataflow_session
from rejeu.launchers.google_calls import CALL_SECONDS, asking, patient
from rejeu.launchers.names import ALL_JOBS, short_name
from rejeu.launchers.waiting import look_until
from rejeu.ports import ENDED, Job, JobRequest, JobState
from rejeu.spec.workers import REQUEST_LABEL, Workers
from rejeu.target import LauncherKind, Target
from rejeu.timeline import parse_instant

if TYPE_CHECKING:
    from google.auth.transport.requests import AuthorizedSession

log = logging.getLogger(__name__)

NAME_LIMIT: Final = 1024
PAGE_SIZE: Final = 100
ROLES: Final = "roles/dataflow.developer, and roles/iam.serviceAccountUser on the job's service account"
REST_SECONDS: Final = 10.0
"""Dataflow takes minutes for everything, and a thousand streams share its quota of requests."""
ADOPT_SECONDS: Final = 10.0
STOP_SECONDS: Final = 900.0
UPDATE_SECONDS: Final = 900.0

STATES: Final = {
    "JOB_STATE_RUNNING": JobState.RUNNING,
    "JOB_STATE_PAUSING": JobState.RUNNING,
    "JOB_STATE_PAUSED": JobState.RUNNING,
    "JOB_STATE_DRAINING": JobState.DRAINING,
    "JOB_STATE_CANCELLING": JobState.DRAINING,
    "JOB_STATE_RESOURCE_CLEANING_UP": JobState.DRAINING,
    "JOB_STATE_DONE": JobState.SUCCEEDED,
    "JOB_STATE_FAILED": JobState.FAILED,
    "JOB_STATE_CANCELLED": JobState.STOPPED,
    "JOB_STATE_DRAINED": JobState.STOPPED,
    "JOB_STATE_UPDATED": JobState.STOPPED,
}
"""In any other state a job waits for its workers."""


@dataclass(frozen=True)
class DataflowLauncher:
    """Runs a flex template, whose parameters are the request's flags; the template decides which module runs.

    `template` is the gs:// path of `gcloud dataflow flex-template build`; `image` is built from docker/beam.Dockerfile,
    and both the template and the workers run it; `folder` is the gs:// path for the jobs' files.

    Dataflow allows one active job of a name in a region, so two starters at once make one job.

    Every method raises LaunchError where Dataflow refuses, or does not answer for `patience` seconds.
    """

    project: str
    region: str
    template: str
    image: str
    folder: str
    service_account: str | None = None
    patience: float = 10.0

    def start(self, request: JobRequest) -> Job:
        """Start the job, or adopt the running one, even if its arguments differ: only `update` changes those.

        Dataflow allows one active job of a name, and one that drains is active for minutes.
        """
        name = request.job_name
        with self._asking(name):
            active = self._active(name) or self._launch_or_find(request)
            if _state(active) is JobState.DRAINING:
                return self._describe(name, active)
            if self._fingerprint_of(active) not in (None, _fingerprint(self._launch_parameter(request))):
                hint = "`rejeu update` updates it in place"
                log.warning("%s: runs with other arguments than its spec has now: %s", name, hint)
            return self._describe(name, active)

    def update(self, request: JobRequest, renamed: Mapping[str, str] | None = None) -> Job:
        """Update the running job in place to this request: it keeps its messages under way and its windows.

        `renamed` maps old names of steps to new ones. A job that is up to date is left alone; if none runs, one is
        started. Waits until the new job has taken over. Raises LaunchError where it cannot: the old one then runs on.
        """
        name = request.job_name
        with self._asking(name):
            old = self._active(name)
            if old is not None and _state(old) is JobState.DRAINING:
                rule = f"{name} is ending ({old['currentState']}), and what is ending cannot be updated"
                raise LaunchError(f"{rule}: start it again once it has ended; {self._console(old)} shows it")
            parameter = self._launch_parameter(request)
            if old is None or self._fingerprint_of(old) == _fingerprint(parameter):
                return self.start(request)
            new = self._launch(parameter, update=True, transformNameMappings=dict(renamed or {}))
            decided = look_until(lambda: self._decided(new["id"]), UPDATE_SECONDS)
            job = self._describe(name, decided or self._get(new["id"]))
        if decided is None or job.state in ENDED:
            raise LaunchError(
                f"{name} was not updated in place: {job.detail}. The old job {old['id']} runs on; mend what the new "
                "one reports, name renamed steps with --renamed, or drain it and start it afresh"
            )
        return job

    def find(self, name: str) -> Job | None:
        """The running job of this name, else the newest: a failed update may be newer than the running job."""
        with self._asking(name):
            jobs = self._list(name)
            found = next((job for job in jobs if _is_active(job)), jobs[0] if jobs else None)
            return None if found is None else self._describe(name, found)

    def find_active(self, names: Collection[str]) -> dict[str, Job]:
        ours = {short_name(name, NAME_LIMIT): name for name in names}
        with self._asking(ALL_JOBS):
            listed = self._pages({"filter": "ACTIVE"})
        active = [(ours[job["name"]], job) for job in listed if job["name"] in ours and _is_active(job)]
        return {name: self._describe(name, job) for name, job in active}

    def stop(self, name: str, *, drain: bool = True) -> Job | None:
        """Drain the job, which then reads no more and finishes what is under way, or cancel it."""
        with self._asking(name):
            job = self._active(name)
            if job is None:
                return self.find(name)
            self._request_end(job, drain=drain)
            ended = look_until(lambda: self._ended(job["id"]), STOP_SECONDS)
            described = self._describe(name, ended or self._get(job["id"]))
        if ended is None:
            rule = f"{name} still runs {STOP_SECONDS:.0f} s after it was asked to end, and is ending still"
            raise LaunchError(f"{rule}: {described.detail}. Look there, or stop it without draining")
        return described

    def _launch_or_find(self, request: JobRequest) -> dict[str, Any]:
        from google.api_core.exceptions import Conflict

        try:
            return self._launch(self._launch_parameter(request))
        except Conflict:  # another starter was first
            found = look_until(lambda: self._active(request.job_name), ADOPT_SECONDS)
            if found is None:
                raise
            return found

    def _launch(self, parameter: dict[str, Any], **how: Any) -> dict[str, Any]:
        environment = parameter["environment"]
        labels = environment["additionalUserLabels"] | {REQUEST_LABEL: _fingerprint(parameter)}
        labelled = parameter | {"environment": environment | {"additionalUserLabels": labels}} | how
        answer = self._ask("POST", f"{self._parent}/flexTemplates:launch", json={"launchParameter": labelled})
        launched: dict[str, Any] = answer["job"]
        return launched | {"labels": labels}

    def _launch_parameter(self, request: JobRequest) -> dict[str, Any]:
        """What the job is launched with, without the label that has its fingerprint."""
        parameters = _parameters(request.to_argv())
        workers = Workers.model_validate(Workers.read(parameters.pop("workers", "{}")))
        environment = {
            "additionalUserLabels": workers.labels,
            "enableStreamingEngine": True,
            "machineType": workers.machine,
            "maxWorkers": workers.max,
            "sdkContainerImage": self.image,
            "serviceAccountEmail": workers.service_account or self.service_account,
            "stagingLocation": f"{self.folder}/staging",
            "streamingMode": "STREAMING_MODE_AT_LEAST_ONCE" if workers.at_least_once else None,
            "tempLocation": f"{self.folder}/temp",
        }
        return {
            "jobName": short_name(request.job_name, NAME_LIMIT),
            "containerSpecGcsPath": self.template,
            "parameters": parameters,
            "environment": {field: value for field, value in environment.items() if value is not None},
        }

    def _request_end(self, job: dict[str, Any], *, drain: bool) -> None:
        """Drain or cancel the job. Without workers it cannot drain; while it is ending it can only be cancelled."""
        from google.api_core.exceptions import BadRequest, Conflict

        if drain and _state(job) is JobState.DRAINING:
            return
        drains = drain and _state(job) is JobState.RUNNING
        wanted = "JOB_STATE_DRAINED" if drains else "JOB_STATE_CANCELLED"
        try:
            self._ask("PUT", f"{self._parent}/jobs/{job['id']}", json={"requestedState": wanted})
        except (BadRequest, Conflict):
            now = self._get(job["id"])
            if _is_active(now) and _state(now) is not JobState.DRAINING:
                raise

    def _active(self, name: str) -> dict[str, Any] | None:
        return next((job for job in self._list(name) if _is_active(job)), None)

    def _list(self, name: str) -> list[dict[str, Any]]:
        """All jobs of exactly this name, the newest first."""
        wanted = short_name(name, NAME_LIMIT)
        jobs = [job for job in self._pages({"name": wanted, "filter": "ALL"}) if job["name"] == wanted]
        return sorted(jobs, key=_age, reverse=True)

    def _pages(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        """All jobs of the region that this wants."""
        question = {**wanted, "pageSize": PAGE_SIZE, "pageToken": ""}
        look = patient(self.patience)(self._ask)
        jobs: list[dict[str, Any]] = []
        while True:
            page = look("GET", f"{self._parent}/jobs", params=question)
            jobs += page.get("jobs", ())
            question["pageToken"] = page.get("nextPageToken", "")
            if not question["pageToken"]:
                return jobs

    def _get(self, job_id: str) -> dict[str, Any]:
        """The job with its labels, which are not in lists."""
        look = patient(self.patience)(self._ask)
        job: dict[str, Any] = look("GET", f"{self._parent}/jobs/{job_id}", params={"view": "JOB_VIEW_DESCRIPTION"})
        return job

    def _fingerprint_of(self, job: dict[str, Any]) -> str | None:
        """The fingerprint of what the job was launched with; None where it has none."""
        labels: dict[str, str] = (job if "labels" in job else self._get(job["id"])).get("labels", {})
        return labels.get(REQUEST_LABEL)

    def _ended(self, job_id: str) -> dict[str, Any] | None:
        job = self._get(job_id)
        return None if _is_active(job) else job

    def _decided(self, job_id: str) -> dict[str, Any] | None:
        """The job once it has taken over or has failed to."""
        job = self._get(job_id)
        return None if _state(job) is JobState.STARTING else job

    def _describe(self, name: str, job: dict[str, Any]) -> Job:
        state = _state(job)
        since = f"{job['currentState']} since {job['currentStateTime']}" if "currentStateTime" in job else "launched"
        why = f"{self._last_error(job['id'])} " if state is JobState.FAILED else ""
        return Job(name, job["id"], state, f"{why}({since}, {self._console(job)})", REST_SECONDS)

    def _last_error(self, job_id: str) -> str:
        look = patient(self.patience)(self._ask)
        question = {"minimumImportance": "JOB_MESSAGE_ERROR", "pageSize": PAGE_SIZE}
        answer = look("GET", f"{self._parent}/jobs/{job_id}/messages", params=question)
        texts = [each["messageText"] for each in answer.get("jobMessages", ())]
        text = texts[-1] if texts else "no reason given"
        if "launcher" in text:  # such a message does not say why
            return f"{text} ({self.folder}/staging/template_launches/{job_id}/console_logs says why)"
        return text

    def _ask(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        from google.api_core.exceptions import from_http_response

        response = self._session.request(method, f"{dataflow_endpoint()}/v1b3/{path}", timeout=CALL_SECONDS, **content)
        if not response.ok:
            raise from_http_response(response)
        answer: dict[str, Any] = response.json()
        return answer

    @cached_property
    def _session(self) -> AuthorizedSession:
        return dataflow_session()

    @property
    def _parent(self) -> str:
        return f"projects/{self.project}/locations/{self.region}"

    def _console(self, job: dict[str, Any]) -> str:
        return f"https://console.cloud.google.com/dataflow/jobs/{self.region}/{job['id']}?project={self.project}"

    def _asking(self, name: str) -> AbstractContextManager[None]:
        return asking(name, f"Dataflow in {self.project}, {self.region}", ROLES)


def _parameters(argv: Sequence[str]) -> dict[str, str]:
    """`--a-b=c` as `a_b: c`, which is how a template names its parameters."""
    words = (word.removeprefix("--").partition("=") for word in argv)
    return {name.replace("-", "_"): value for name, _, value in words}


def _fingerprint(parameter: dict[str, Any]) -> str:
    """A hash of what a job is launched with; short enough for a label."""
    return hashlib.sha256(json.dumps(parameter, sort_keys=True).encode()).hexdigest()[:16]


def _state(job: dict[str, Any]) -> JobState:
    return STATES.get(job.get("currentState", ""), JobState.STARTING)


def _is_active(job: dict[str, Any]) -> bool:
    return _state(job) not in ENDED


def _age(job: dict[str, Any]) -> tuple[datetime, str]:
    """Sorts jobs by their start."""
    return parse_instant(job["createTime"]), job["id"]


def _make(target: Target, environment: Mapping[str, str]) -> DataflowLauncher:
    folder = f"gs://{target.bucket}/rejeu/dataflow"
    account = target.jobs_service_account or None
    return DataflowLauncher(target.project, target.region, target.template, target.jobs_image, folder, account)


LAUNCHER = LauncherKind(
    _make,
    needs=("region", "bucket", "template", "jobs_image"),
    starts_replays=False,
    starts_streams=True,
    elsewhere=True,
    emulator="DATAFLOW_EMULATOR_HOST",
)
