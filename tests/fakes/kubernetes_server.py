"""The part of the Kubernetes API that our launcher uses, on a port; its pods are processes of this machine.

It refuses what the API server refuses, and does with jobs what the job controller does (job_controller.go).
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.fakes.processes import Contained
from tests.fakes.rest import Answer, Call, Refusal, RestServer

IMAGE = "registry.test/rejeu-replay:1"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
NOWHERE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
UNPULLED = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}


class Pod:
    """A job's pod; `tracked` is the controller's finalizer, without which the pod's end does not count."""

    def __init__(self, job: dict[str, Any], pod_name: str) -> None:
        self.job = job
        self.name = pod_name
        self.tracked = True
        self.deleted = False
        self.unschedulable = False
        self.out_of_memory = False
        self.process: Contained | None = None

    @property
    def phase(self) -> str:
        if self.process is None:
            return "Pending"
        code = self.process.exit_code
        return "Running" if code is None else "Failed" if code else "Succeeded"

    def show(self) -> dict[str, Any]:
        template = self.job["spec"]["template"]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "labels": template["metadata"]["labels"]},
            "spec": template["spec"],
            "status": {
                "phase": self.phase,
                **({"conditions": [NOWHERE]} if self.unschedulable else self._containers()),
            },
        }

    def _containers(self) -> dict[str, Any]:
        code = self.process.exit_code if self.process else None
        if self.process is None:
            state: dict[str, Any] = {"waiting": UNPULLED}
        elif code is None:
            state = {"running": {}}
        else:
            reason = "OOMKilled" if self.out_of_memory else "Error" if code else "Completed"
            state = {"terminated": {"exitCode": code, "reason": reason}}
        container = {"name": "job", "image": IMAGE, "imageID": "", "restartCount": 0}
        return {"containerStatuses": [container | {"ready": "running" in state, "state": state}]}


class KubernetesServer(RestServer):
    """A cluster with one namespace and one image, whose containers find the modules of `python_path`."""

    namespace = "streams"
    type_of_bytes = "text/plain"

    def __init__(self, folder: Path, python_path: str) -> None:
        self._folder = folder
        self._python_path = python_path
        self._lock = threading.RLock()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: list[Pod] = []
        self.made: list[Pod] = []
        self.controller_away = False
        self._version = 0
        jobs = "/apis/batch/v1/namespaces/(?P<namespace>[^/]+)/jobs"
        pods = "/api/v1/namespaces/(?P<namespace>[^/]+)/pods"
        super().__init__(
            [
                ("POST", jobs, self._create),
                ("GET", jobs, self._list),
                ("GET", f"{jobs}/(?P<name>[^/]+)", self._get),
                ("PATCH", f"{jobs}/(?P<name>[^/]+)", self._patch),
                ("DELETE", f"{jobs}/(?P<name>[^/]+)", self._delete),
                ("GET", pods, self._list_pods),
                ("DELETE", pods, self._delete_pods),
                ("GET", f"{pods}/(?P<name>[^/]+)/log", self._log),
            ]
        )

    def newest(self, job: str) -> Pod:
        return next(each for each in reversed(self.made) if each.job["metadata"]["annotations"]["rejeu/job"] == job)

    def lose(self, pod: Pod) -> None:
        """What happens to a pod whose node is drained."""
        self._end(pod, grace=30)

    # What the API server does

    def _create(self, call: Call) -> Answer:
        job = call.body
        name, template = job["metadata"]["name"], job["spec"]["template"]
        labels = {**job["metadata"]["labels"], **template["metadata"]["labels"]}
        if call.parts["namespace"] != self.namespace:
            raise refuse(404, "NotFound", f'namespaces "{call.parts["namespace"]}" not found')
        if not NAME.fullmatch(name) or not all(LABEL.fullmatch(value) for value in labels.values()):
            raise refuse(422, "Invalid", f'Job.batch "{name}" is invalid: must be no more than 63 characters')
        with self._lock:
            if name in self.jobs:
                raise refuse(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
            uid = str(uuid.uuid4())
            job["metadata"] |= {"uid": uid, "namespace": self.namespace, "creationTimestamp": _now()}
            template["metadata"]["labels"] |= {
                "batch.kubernetes.io/controller-uid": uid,
                "batch.kubernetes.io/job-name": name,
            }
            job["status"] = {}
            self.jobs[name] = job
            self._changed(job)
            shown = _copy(job)
        self._run(job)
        return shown

    def _list(self, call: Call) -> Answer:
        key, _, value = call.query["labelSelector"].partition("=")
        with self._lock:
            items = [_copy(job) for job in self.jobs.values() if job["metadata"]["labels"].get(key) == value]
        return {"apiVersion": "batch/v1", "kind": "JobList", "metadata": {}, "items": items}

    def _get(self, call: Call) -> Answer:
        return _copy(self._job(call))

    def _patch(self, call: Call) -> Answer:
        with self._lock:
            job = self._job(call)
            if set(call.body) != {"spec"} or set(call.body["spec"]) != {"suspend"}:
                raise refuse(422, "Invalid", f'Job.batch "{call.parts["name"]}" is invalid: field is immutable')
            job["spec"] |= call.body["spec"]
            self._changed(job)
            shown = _copy(job)
        if job["spec"]["suspend"] and not self.controller_away:
            threading.Thread(target=self._suspend, args=(job,)).start()
        return shown

    def _delete(self, call: Call) -> Answer:
        with self._lock:
            job = self._job(call)
            if job["metadata"]["uid"] != call.body.get("preconditions", {}).get("uid", job["metadata"]["uid"]):
                raise refuse(409, "Conflict", "the UID in the precondition does not match the UID in record")
            if call.body["propagationPolicy"] != "Foreground":
                raise AssertionError("the fake server knows foreground deletion alone")
            job["metadata"] |= {"deletionTimestamp": _now(), "finalizers": ["foregroundDeletion"]}
            self._changed(job)
            shown = _copy(job)
        threading.Thread(target=self._collect, args=(job,)).start()
        return shown

    def _list_pods(self, call: Call) -> Answer:
        return {
            "apiVersion": "v1",
            "kind": "PodList",
            "metadata": {},
            "items": [pod.show() for pod in self._select(call)],
        }

    def _delete_pods(self, call: Call) -> Answer:
        shown = self._list_pods(call)
        grace = float(call.query.get("gracePeriodSeconds", 30))
        for pod in self._select(call):
            threading.Thread(target=self._end, args=(pod, grace)).start()
        return shown

    def _log(self, call: Call) -> Answer:
        pod = next((each for each in self.pods if each.name == call.parts["name"]), None)
        if pod is None:
            raise refuse(404, "NotFound", f'pods "{call.parts["name"]}" not found')
        if pod.process is None:
            raise refuse(400, "BadRequest", f'container "job" in pod "{pod.name}" is waiting to start')
        lines = pod.process.said().splitlines(keepends=True)
        return b"".join(lines[-int(call.query["tailLines"]) :] if "tailLines" in call.query else lines)

    # What the job controller does

    def _run(self, job: dict[str, Any]) -> None:
        with self._lock:
            pod = Pod(job, f"{job['metadata']['name']}-{len(self.made):05}")
            self.pods.append(pod)
            self.made.append(pod)
            container = job["spec"]["template"]["spec"]["containers"][0]
            if container["image"] == IMAGE:
                environment = {each["name"]: _expand(each["value"], {}) for each in container["env"]}
                environment = {"PYTHONPATH": self._python_path, "HOME": "/home/rejeu"} | environment
                command = [_expand(word, environment) for word in [*container["command"], *container["args"]]]
                log = self._folder / f"{pod.name}.log"
                pod.process = Contained(command, environment, log, ended=lambda: self._ended(pod))

    def _ended(self, pod: Pod) -> None:
        """A pod that ended decides its job, and one that was deleted goes."""
        with self._lock:
            if pod.tracked:
                self._conclude(pod.job, "Complete" if pod.phase == "Succeeded" else "Failed")
            if pod.deleted and pod in self.pods:
                self.pods.remove(pod)

    def _conclude(self, job: dict[str, Any], kind: str) -> None:
        reason = {"Complete": "CompletionsReached", "Failed": "BackoffLimitExceeded"}[kind]
        message = {
            "Complete": "Reached expected number of succeeded pods",
            "Failed": "Job has reached the specified backoff limit",
        }[kind]
        if "conditions" not in job["status"]:
            job["status"]["conditions"] = [{"type": kind, "status": "True", "reason": reason, "message": message}]
            self._changed(job)

    def _suspend(self, job: dict[str, Any]) -> None:
        """The controller takes its finalizer off a pod before it deletes it; any other pod has failed."""
        for pod in [each for each in self.pods if each.job is job and each.phase in ("Pending", "Running")]:
            if not pod.deleted:
                pod.tracked = False
                self._end(pod, job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])

    def _collect(self, job: dict[str, Any]) -> None:
        for pod in [each for each in self.pods if each.job is job]:
            self._end(pod, job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])
        with self._lock:
            if self.jobs.get(job["metadata"]["name"]) is job:
                del self.jobs[job["metadata"]["name"]]

    # What the kubelet does

    def _end(self, pod: Pod, grace: float) -> None:
        """A second deletion may shorten the grace of the first."""
        pod.deleted = True
        if pod.process is None or pod.process.exit_code is not None:
            with self._lock:
                if pod in self.pods:
                    self.pods.remove(pod)
        elif grace == 0:
            with self._lock:
                self.pods.remove(pod)
            pod.process.kill()
        else:
            pod.process.terminate(grace)

    def _job(self, call: Call) -> dict[str, Any]:
        job = self.jobs.get(call.parts["name"])
        if job is None or call.parts["namespace"] != self.namespace:
            raise refuse(404, "NotFound", f'jobs.batch "{call.parts["name"]}" not found')
        return job

    def _select(self, call: Call) -> list[Pod]:
        key, _, value = call.query["labelSelector"].partition("=")
        return [pod for pod in self.pods if pod.show()["metadata"]["labels"].get(key) == value]

    def _changed(self, job: dict[str, Any]) -> None:
        self._version += 1
        job["metadata"]["resourceVersion"] = str(self._version)


def refuse(status: int, reason: str, message: str) -> Refusal:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}
    return Refusal(status, body | {"code": status})


def _expand(text: str, environment: dict[str, str]) -> str:
    """Put values for `$(NAME)` as Kubernetes does: `$$` is a dollar, what is not known stays."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else environment.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", value, text)


def _copy(job: dict[str, Any]) -> dict[str, Any]:
    """What is answered does not change with what happens afterwards."""
    copied: dict[str, Any] = json.loads(json.dumps(job))
    return copied


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
