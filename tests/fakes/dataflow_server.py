"""The jobs of Dataflow, as small as our launcher needs, over REST; a job is where a test puts it, and runs nowhere.

Jobs wait for their workers until the server is told to `provision`. Lists are summaries without labels, in small
pages, and hold the jobs whose names begin with the one that is asked for. It refuses what Dataflow refuses: a second
active job of one name, an update of none, labels and names that it does not take, the ending of what has ended, and
everything once permission is `denied`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fakes.rest import Answer, Call, Refusal, RestServer

PAGE = 2
NAME = re.compile(r"[a-z]([-a-z0-9]{0,1022}[a-z0-9])?")
LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
BEGINNING = datetime(2026, 11, 1, tzinfo=UTC)
ENDED = {f"JOB_STATE_{end}" for end in ("DONE", "FAILED", "CANCELLED", "DRAINED", "UPDATED")}


@dataclass
class DataflowJob:
    """A job: what it was launched with, and where it is."""

    id: str
    launched: dict[str, Any]
    created: str
    state: str = "JOB_STATE_QUEUED"
    since: str = ""
    messages: list[str] = field(default_factory=list)
    replaces: DataflowJob | None = None

    @property
    def name(self) -> str:
        return str(self.launched["jobName"])

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def summary(self) -> dict[str, Any]:
        """The job as lists show it."""
        times = {"createTime": self.created, "currentStateTime": self.since}
        return {"id": self.id, "name": self.name, "currentState": self.state, "type": "JOB_TYPE_STREAMING"} | times


class DataflowServer(RestServer):
    """Drains at once unless told to take its time."""

    def __init__(self) -> None:
        self.denied = False
        self.slow = False
        """Whether a job that is to end stays where it ends."""
        self.incompatible = ""
        """Why a job cannot replace another in place."""
        self.before: dict[str, Callable[[], None]] = {}
        """What happens once, just before a job is launched, listed or updated; it may raise a Refusal."""
        self.jobs: list[DataflowJob] = []
        self._lock = threading.RLock()
        self._ticks = 0
        place = "/v1b3/projects/[^/]+/locations/[^/]+"
        super().__init__(
            [
                ("POST", f"{place}/flexTemplates:launch", self._launch),
                ("GET", f"{place}/jobs", self._list),
                ("GET", f"{place}/jobs/(?P<id>[^/]+)", self._get),
                ("PUT", f"{place}/jobs/(?P<id>[^/]+)", self._update),
                ("GET", f"{place}/jobs/(?P<id>[^/]+)/messages", self._messages),
            ]
        )

    def provision(self) -> None:
        """Give every job that waits its workers; one that replaces another takes over, or fails and leaves it."""
        with self._lock:
            for job in self.jobs:
                if job.state == "JOB_STATE_QUEUED":
                    self._run(job)

    def move(self, job: DataflowJob, state: str, *messages: str) -> None:
        """Let a job be where a test wants it."""
        with self._lock:
            job.state, job.since = f"JOB_STATE_{state}", self._tick()
            job.messages += messages

    def _run(self, job: DataflowJob) -> None:
        if job.replaces is None:
            self.move(job, "RUNNING")
        elif self.incompatible:
            self.move(job, "FAILED", f"Workflow failed. Causes: {self.incompatible}")
        else:
            self.move(job.replaces, "UPDATED")
            self.move(job, "RUNNING")

    def _launch(self, call: Call) -> Answer:
        self._permit("launch")
        with self._lock:
            launched = call.body["launchParameter"]
            _check(launched)
            active = next((job for job in self.jobs if job.name == launched["jobName"] and not job.ended), None)
            if active is not None and not launched.get("update"):
                text = f"There is already an active job named {active.name}. If you want to submit a second job, try"
                raise refusal(409, "ALREADY_EXISTS", f"{text} again by setting a different name.")
            if active is None and launched.get("update"):
                raise refusal(400, "INVALID_ARGUMENT", f"No active job named {launched['jobName']} to update.")
            now = self._tick()
            self.jobs.append(DataflowJob(f"job-{len(self.jobs) + 1}", launched, now, since=now, replaces=active))
            return {"job": {"id": self.jobs[-1].id, "name": self.jobs[-1].name, "createTime": now}}

    def _list(self, call: Call) -> Answer:
        self._permit("list")
        with self._lock:
            named = [job for job in self.jobs if job.name.startswith(call.query.get("name", ""))]
            found = [job.summary() for job in named if call.query["filter"] == "ALL" or not job.ended]
            first = int(call.query.get("pageToken") or 0)
            more = first + PAGE < len(found)
            page = {"jobs": found[first : first + PAGE]} if found else {}
            return page | ({"nextPageToken": str(first + PAGE)} if more else {})

    def _get(self, call: Call) -> Answer:
        self._permit("get")
        job = self._job(call)
        described = call.query.get("view") == "JOB_VIEW_DESCRIPTION"
        return job.summary() | ({"labels": job.launched["environment"]["additionalUserLabels"]} if described else {})

    def _update(self, call: Call) -> Answer:
        self._permit("update")
        with self._lock:
            job, wanted = self._job(call), call.body["requestedState"]
            if job.ended or (wanted == "JOB_STATE_DRAINED" and job.state == "JOB_STATE_QUEUED"):
                raise refusal(400, "FAILED_PRECONDITION", f"{job.id} is {job.state}: it cannot be {wanted}.")
            ends = {"JOB_STATE_DRAINED": ("DRAINING", "DRAINED"), "JOB_STATE_CANCELLED": ("CANCELLING", "CANCELLED")}
            self.move(job, ends[wanted][0 if self.slow else 1])
            return job.summary()

    def _messages(self, call: Call) -> Answer:
        job = self._job(call)
        return {"jobMessages": [{"messageText": text} for text in job.messages]} if job.messages else {}

    def _job(self, call: Call) -> DataflowJob:
        job = next((each for each in self.jobs if each.id == call.parts["id"]), None)
        if job is None:
            raise refusal(404, "NOT_FOUND", f"Information about job {call.parts['id']} could not be found.")
        return job

    def _permit(self, verb: str) -> None:
        self.before.pop(verb, lambda: None)()
        if self.denied:
            raise refusal(403, "PERMISSION_DENIED", f"Permission 'dataflow.jobs.{verb}' denied on resource.")

    def _tick(self) -> str:
        """An instant that is later than all before it; written, as by Google, without what is zero."""
        self._ticks += 1
        return (BEGINNING + timedelta(milliseconds=500 * self._ticks)).isoformat().replace("+00:00", "Z")


def _check(launched: dict[str, Any]) -> None:
    labels = launched["environment"].get("additionalUserLabels", {})
    wrong = {key for key, value in labels.items() if not (LABEL_KEY.fullmatch(key) and LABEL_VALUE.fullmatch(value))}
    if wrong or not NAME.fullmatch(launched["jobName"]):
        raise refusal(400, "INVALID_ARGUMENT", f"Invalid labels {wrong} or name {launched['jobName']}")
    if not re.fullmatch("gs://.+/.+", launched["containerSpecGcsPath"]):
        raise refusal(400, "INVALID_ARGUMENT", f"Unable to parse template file '{launched['containerSpecGcsPath']}'.")
    if not all(isinstance(value, str) for value in launched["parameters"].values()):
        raise refusal(400, "INVALID_ARGUMENT", "Invalid JSON payload received: parameters are strings.")


def refusal(status: int, reason: str, text: str) -> Refusal:
    return Refusal(status, {"error": {"code": status, "message": text, "status": reason}})
