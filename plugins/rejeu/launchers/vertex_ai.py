"""A launcher of Vertex AI custom jobs, over REST: importing Google's client for it takes 5 s and 150 MB."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from rejeu.errors import LaunchError
from rejeu.gcp.clients import vertex_endpoint, vertex_session
from rejeu.launchers.google_calls import CALL_SECONDS, asking, patient
from rejeu.launchers.names import ALL_JOBS, short_name
from rejeu.launchers.waiting import look_until
from rejeu.ports import ENDED, Job, JobRequest, JobState
from rejeu.target import LauncherKind, Target
from rejeu.timeline import parse_instant

if TYPE_CHECKING:
    from google.auth.transport.requests import AuthorizedSession

DISPLAY_NAME_LIMIT: Final = 128
LABEL_LIMIT: Final = 63
JOB_LABEL: Final = "rejeu-job"
PAGE_SIZE: Final = 100
ROLES: Final = "roles/aiplatform.user, and roles/iam.serviceAccountUser on the job's service account"
STOP_SECONDS: Final = 180.0

SCHEDULING: Final = {
    "timeout": "604800s",
    "restartJobOnWorkerRestart": False,
    # The watchdog decides what is started again, and where.
    "disableRetries": True,
}
STATES: Final = {
    "JOB_STATE_RUNNING": JobState.RUNNING,
    "JOB_STATE_UPDATING": JobState.RUNNING,
    "JOB_STATE_CANCELLING": JobState.DRAINING,
    "JOB_STATE_SUCCEEDED": JobState.SUCCEEDED,
    "JOB_STATE_FAILED": JobState.FAILED,
    "JOB_STATE_EXPIRED": JobState.FAILED,
    "JOB_STATE_PARTIALLY_SUCCEEDED": JobState.FAILED,
    "JOB_STATE_CANCELLED": JobState.STOPPED,
}
"""In any other state a job waits for its machine."""
ACTIVE: Final = " AND ".join(
    [f"labels.{JOB_LABEL}:*", *(f'state!="{name}"' for name, state in STATES.items() if state in ENDED)]
)
"""Wants the jobs of ours that have not ended."""

_EXIT = re.compile(r"non-zero status of (\d+)")


@dataclass(frozen=True)
class VertexLauncher:
    """Runs `python -m <module> <argv>` as a custom job of one replica, for 7 days at most.

    Vertex AI gives jobs ids of its own and has no lock: two starters at once may make two jobs. Each starter then
    looks again, and cancels all but the oldest, on which they agree. A job waits minutes for a machine, so the others
    end before they run. If one did run for a moment, the stream's lease would let only one publish.

    Vertex AI does not return what a job prints: one with a `ready_text` counts as running when its container does.

    Every method raises LaunchError where Vertex AI refuses, or does not answer for `patience` seconds.
    """

    project: str
    region: str
    image: str
    service_account: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    machine_type: str = "e2-standard-4"
    patience: float = 10.0

    def start(self, request: JobRequest) -> Job:
        name = request.job_name
        with self._asking(name):
            adopted = self._settle(name)
            if adopted is None:
                created = self._ask("POST", self._parent, json=self._custom_job(request))
                adopted = self._settle(name) or created
            return self._describe(name, adopted)

    def find(self, name: str) -> Job | None:
        """The active job of this name, else the one that ended last: a job that was cancelled for it may be newer."""
        with self._asking(name):
            jobs = self._list(name)
            if not jobs:
                return None
            active = [job for job in jobs if _is_active(job)]
            return self._describe(name, min(active, key=_age) if active else max(jobs, key=_end))

    def find_active(self, names: Collection[str]) -> dict[str, Job]:
        ours = {short_name(name, DISPLAY_NAME_LIMIT): name for name in names}
        with self._asking(ALL_JOBS):
            listed = self._pages(ACTIVE)
        # The oldest at the end: where two were started at once, that is the one to stay.
        jobs = sorted(filter(_is_active, listed), key=_age, reverse=True)
        named = [(ours[job["displayName"]], job) for job in jobs if job["displayName"] in ours]
        return {name: self._describe(name, job) for name, job in named}

    def stop(self, name: str, *, drain: bool = True) -> Job | None:
        """Cancel the job. Vertex AI promises neither a signal to it before it is killed, nor how soon it ends.

        So `drain` makes no difference: what is under way may be lost, and a replay resumes at its cursor.
        """
        with self._asking(name):
            active = {job["name"] for job in self._list(name) if _is_active(job)}
            for job in active:
                self._cancel(job)
            over = look_until(lambda: self._are_over(name, active) or None, STOP_SECONDS)
        job = self.find(name)
        if job is not None and not over:
            rule = f"{name} still runs {STOP_SECONDS:.0f} s after it was cancelled"
            raise LaunchError(f"{rule}: {job.detail}. Stop it again in a few minutes")
        return job

    def _settle(self, name: str) -> dict[str, Any] | None:
        """Cancel all active jobs of this name but the oldest, and return that one."""
        active = sorted((job for job in self._list(name) if _is_active(job)), key=_age)
        for job in active[1:]:
            self._cancel(job["name"])
        return active[0] if active else None

    def _cancel(self, job: str) -> None:
        from google.api_core.exceptions import BadRequest, Conflict

        with suppress(BadRequest, Conflict):  # it has just ended, or somebody else cancels it
            self._ask("POST", f"{job}:cancel", json={})

    def _are_over(self, name: str, jobs: set[str]) -> bool:
        return not any(_is_active(job) for job in self._list(name) if job["name"] in jobs)

    def _list(self, name: str) -> list[dict[str, Any]]:
        """All jobs of exactly this name."""
        display_name = short_name(name, DISPLAY_NAME_LIMIT)
        return [job for job in self._pages(f'display_name="{display_name}"') if job["displayName"] == display_name]

    def _pages(self, wanted: str) -> list[dict[str, Any]]:
        """All jobs that this filter wants."""
        question = {"filter": wanted, "pageSize": PAGE_SIZE, "pageToken": ""}
        look = patient(self.patience)(self._ask)
        jobs: list[dict[str, Any]] = []
        while True:
            page = look("GET", self._parent, params=question)
            jobs += page.get("customJobs", ())
            question["pageToken"] = page.get("nextPageToken", "")
            if not question["pageToken"]:
                return jobs

    def _ask(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        from google.api_core.exceptions import from_http_response

        url = f"{vertex_endpoint(self.region)}/v1/{path}"
        response = self._session.request(method, url, timeout=CALL_SECONDS, **content)
        if not response.ok:
            raise from_http_response(response)
        answer: dict[str, Any] = response.json()
        return answer

    def _custom_job(self, request: JobRequest) -> dict[str, Any]:
        container = {
            "imageUri": self.image,
            "command": ["python", "-m", request.module],
            "args": [*request.to_argv()],
            "env": [{"name": name, "value": value} for name, value in self.environment.items()],
        }
        pool = {"machineSpec": {"machineType": self.machine_type}, "replicaCount": "1", "containerSpec": container}
        spec: dict[str, Any] = {"workerPoolSpecs": [pool], "scheduling": SCHEDULING}
        if self.service_account is not None:
            spec["serviceAccount"] = self.service_account
        return {
            "displayName": short_name(request.job_name, DISPLAY_NAME_LIMIT),
            "labels": {JOB_LABEL: short_name(request.job_name, LABEL_LIMIT)},
            "jobSpec": spec,
        }

    def _describe(self, name: str, job: dict[str, Any]) -> Job:
        message = job.get("error", {}).get("message", "")
        code = _EXIT.search(message)
        why = f"exit code {code[1]}: {message}" if code else message
        number = job["name"].rpartition("/")[2]
        console = f"https://console.cloud.google.com/agent-platform/locations/{self.region}/training/{number}"
        detail = f"{why} (logs {console}?project={self.project})".lstrip()
        container = job["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]
        return Job(name, job["name"], _state(job), detail, argv=tuple(container.get("args", ())))

    @cached_property
    def _session(self) -> AuthorizedSession:
        return vertex_session()

    @property
    def _parent(self) -> str:
        return f"projects/{self.project}/locations/{self.region}/customJobs"

    def _asking(self, name: str) -> AbstractContextManager[None]:
        return asking(name, f"Vertex AI in {self.project}, {self.region}", ROLES)


def _state(job: dict[str, Any]) -> JobState:
    return STATES.get(job["state"], JobState.STARTING)


def _is_active(job: dict[str, Any]) -> bool:
    return _state(job) not in ENDED


def _age(job: dict[str, Any]) -> tuple[datetime, str]:
    """Sorts jobs by age, in the same order for every starter."""
    return parse_instant(job["createTime"]), job["name"]


def _end(job: dict[str, Any]) -> tuple[datetime, str]:
    return parse_instant(job.get("endTime", job["createTime"])), job["name"]


def _make(target: Target, environment: Mapping[str, str]) -> VertexLauncher:
    return VertexLauncher(target.project, target.region, target.image, target.service_account or None)


LAUNCHER = LauncherKind(
    _make,
    needs=("image", "region", "bucket", "jobs_image"),
    elsewhere=True,
    runs_jobs=True,
    emulator="VERTEX_AI_EMULATOR_HOST",
)
