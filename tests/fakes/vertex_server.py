"""The custom jobs of Vertex AI, as small as our launcher needs, over REST; a job is a process of this machine.

Jobs wait for their machines until the server is told to `provision`. Lists come oldest first, in small pages. It
refuses what Vertex AI refuses: jobs without what they need, wrong labels, the cancelling of what has ended, and
everything once permission is `denied`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.fakes.processes import Contained
from tests.fakes.rest import Answer, Call, Refusal, RestServer

PAGE = 2
LABEL = re.compile(r"[a-z0-9_-]{0,63}")
TERM = re.compile(r'(?:display_name="(?P<name>[^"]*)"|state!="(?P<not_in>\w+)"|labels\.(?P<labelled>[\w-]+):\*)')
BEGINNING = datetime(2026, 11, 1, tzinfo=UTC)


class CustomJob:
    """A job, and its process once it has a machine."""

    def __init__(self, resource: dict[str, Any]) -> None:
        self.resource = resource
        self.process: Contained | None = None
        self.cancelled = False

    @property
    def name(self) -> str:
        return str(self.resource["name"])

    @property
    def ended(self) -> bool:
        return self.cancelled if self.process is None else self.process.exit_code is not None

    def seen(self) -> dict[str, Any]:
        """The job as it is now."""
        code = self.process and self.process.exit_code
        if not self.ended:
            state = "PENDING" if self.process is None else "CANCELLING" if self.cancelled else "RUNNING"
            return self.resource | {"state": f"JOB_STATE_{state}"}
        ended = self.resource | {"endTime": self.resource["updateTime"]}
        if self.cancelled:
            return ended | {"state": "JOB_STATE_CANCELLED", "error": {"code": 1, "message": "CANCELED"}}
        if code == 0:
            return ended | {"state": "JOB_STATE_SUCCEEDED"}
        message = (
            f"The replica workerpool0-0 exited with a non-zero status of {code}. "
            "To find out more about why your job exited please check the logs."
        )
        return ended | {"state": "JOB_STATE_FAILED", "error": {"code": 3, "message": message}}


class VertexServer(RestServer):
    """Its containers find the modules of `python_path`."""

    def __init__(self, folder: Path, python_path: str) -> None:
        self.grace = 10.0
        self.denied = False
        self.before: dict[str, Callable[[], None]] = {}
        """What happens once, just before a job is created, listed or cancelled; it may raise a Refusal."""
        self.jobs: list[CustomJob] = []
        self._folder = folder
        self._python_path = python_path
        self._lock = threading.RLock()
        self._ticks = 0
        jobs = "/v1/(?P<parent>projects/[^/]+/locations/[^/]+)/customJobs"
        super().__init__(
            [
                ("POST", jobs, self._create),
                ("GET", jobs, self._list),
                ("POST", "/v1/(?P<name>.+):cancel", self._cancel),
            ]
        )

    def provision(self) -> None:
        """Give every job that waits its machine."""
        with self._lock:
            for job in self.jobs:
                if job.process is None and not job.cancelled:
                    job.process = self._run(job)

    def newest(self, display_name: str) -> CustomJob:
        return next(each for each in reversed(self.jobs) if each.resource["displayName"] == display_name)

    def _create(self, call: Call) -> Answer:
        self._permit("create")
        with self._lock:
            _check(call.body)
            now = self._tick()
            name = f"{call.parts['parent']}/customJobs/{len(self.jobs) + 1}"
            self.jobs.append(CustomJob(call.body | {"name": name, "createTime": now, "updateTime": now}))
            return self.jobs[-1].seen()

    def _list(self, call: Call) -> Answer:
        self._permit("list")
        with self._lock:
            terms = [TERM.fullmatch(term) for term in call.query["filter"].split(" AND ")]
            if None in terms:
                raise refusal(400, "INVALID_ARGUMENT", f"Invalid filter: {call.query['filter']}")
            found = [job for job in self.jobs if all(_meets(job.seen(), term) for term in terms if term)]
            first = int(call.query.get("pageToken") or 0)
            page = {"customJobs": [job.seen() for job in found[first : first + PAGE]]}
            more = first + PAGE < len(found)
            return page | ({"nextPageToken": str(first + PAGE)} if more else {}) if found else {}

    def _cancel(self, call: Call) -> Answer:
        self._permit("cancel")
        with self._lock:
            job = next((each for each in self.jobs if each.name == call.parts["name"]), None)
            if job is None:
                raise refusal(404, "NOT_FOUND", f"The CustomJob {call.parts['name']} does not exist.")
            if job.ended or job.cancelled:
                raise refusal(400, "FAILED_PRECONDITION", f"{job.name} cannot be cancelled: it is not running.")
            job.cancelled = True
            job.resource["updateTime"] = self._tick()
            if job.process is not None:
                threading.Thread(target=job.process.terminate, args=(self.grace,), daemon=True).start()
            return {}

    def _run(self, job: CustomJob) -> Contained:
        container = job.resource["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]
        environment = {variable["name"]: variable["value"] for variable in container.get("env", ())}
        log = self._folder / f"custom-job-{job.name.rpartition('/')[2]}.log"

        def ended() -> None:
            job.resource["updateTime"] = self._tick()

        command = [*container["command"], *container.get("args", ())]
        return Contained(command, {"PYTHONPATH": self._python_path} | environment, log, ended)

    def _permit(self, verb: str) -> None:
        self.before.pop(verb, lambda: None)()
        if self.denied:
            text = f"Permission 'aiplatform.customJobs.{verb}' denied on resource (or it may not exist)."
            raise refusal(403, "PERMISSION_DENIED", text)

    def _tick(self) -> str:
        """An instant that is later than all before it; written, as by Google, without what is zero."""
        self._ticks += 1
        return (BEGINNING + timedelta(milliseconds=500 * self._ticks)).isoformat().replace("+00:00", "Z")


def _meets(job: dict[str, Any], term: re.Match[str]) -> bool:
    """Whether the job is one that this term of a filter wants."""
    if term["labelled"]:
        return term["labelled"] in job.get("labels", {})
    return bool(job["state"] != term["not_in"] if term["not_in"] else job["displayName"] == term["name"])


def _check(body: dict[str, Any]) -> None:
    (pool,) = body["jobSpec"]["workerPoolSpecs"]
    if not (body["displayName"] and len(body["displayName"]) <= 128):
        raise refusal(400, "INVALID_ARGUMENT", "display_name must be between 1 and 128 characters")
    if not all(LABEL.fullmatch(text) for label in body.get("labels", {}).items() for text in label):
        raise refusal(400, "INVALID_ARGUMENT", f"Invalid labels: {body['labels']}")
    if not pool["machineSpec"]["machineType"] or pool["replicaCount"] != "1":
        raise refusal(400, "INVALID_ARGUMENT", "the first worker pool must have exactly one replica, and a machine")


def refusal(status: int, reason: str, text: str) -> Refusal:
    return Refusal(status, {"error": {"code": status, "message": text, "status": reason}})
