"""A launcher of Kubernetes jobs, in the cluster that it runs in, else in the one that the kubeconfig names.

The job's object is the lock: the API server refuses a second one of that name. The launcher's own account needs, in
the namespace: jobs (create, get, list, patch, delete), pods (list, deletecollection) and pods/log (get).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rejeu.errors import LaunchError, translated
from rejeu.launchers.kubernetes_objects import (
    OVER,
    OWNER_LABEL,
    Resource,
    conditions_of,
    literal,
    note_of,
    owned_by,
    phase_of,
    read_literal,
    state_of,
    telling,
    waits_for,
)
from rejeu.launchers.names import ALL_JOBS, short_name
from rejeu.ports import ENDED, Job, JobRequest, JobState
from rejeu.target import LauncherKind, Target

# kubernetes is imported where it is first used: a launcher is made in the triggerer's event loop, which must not wait.
if TYPE_CHECKING:
    from kubernetes.client import BatchV1Api, CoreV1Api

DRAIN_SECONDS = 30
KILL_SECONDS = 1
"""With 0, Kubernetes forgets a pod before its process has ended, and another one could start beside it."""
PATIENCE_SECONDS = DRAIN_SECONDS + 30
PAUSE_SECONDS = 0.2
CALL_SECONDS = 30
ATTEMPTS = 5
"""How often a starter tries while others are faster."""
NAME_LIMIT = 63

NAME_NOTE = "rejeu/job"
READY_NOTE = "rejeu/ready-text"
SCRATCH = "scratch"
"""The one place that a job may write to."""
SCRATCH_SIZE = "20Gi"
OUR_LABEL = "app.kubernetes.io/name"
OURS = f"{OUR_LABEL}=rejeu"
"""What selects the jobs of ours, and their pods."""


class KubernetesLauncher:
    """Runs `python -m <module> <argv>` as the one pod of a job, which is not restarted.

    A stopped job remains, suspended and without a pod. `resources` are written as in a manifest:
    {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {...}}.
    """

    def __init__(
        self,
        image: str,
        namespace: str = "default",
        service_account: str | None = None,
        environment: Mapping[str, str] | None = None,
        resources: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._image = image
        self._namespace = namespace
        self._service_account = service_account
        self._environment = dict(environment or {})
        self._resources = {kind: dict(amounts) for kind, amounts in (resources or {}).items()}

    def start(self, request: JobRequest) -> Job:
        name = request.job_name
        with self._asking(name):
            for _ in range(ATTEMPTS):
                job = self._read(name)
                if job is not None:
                    found = self._describe(job)
                    if found.state not in ENDED and "deletionTimestamp" not in job["metadata"]:
                        return found
                    self._delete(job)
                created = self._create(request)
                if created is not None:
                    return self._describe(created)
        raise LaunchError(
            f"{name} was not started: its name is taken, by a foreign job or by others that start it right now. "
            f"See kubectl get jobs --namespace {self._namespace}"
        )

    def find(self, name: str) -> Job | None:
        with self._asking(name):
            job = self._read(name)
            return None if job is None else self._describe(job)

    def find_active(self, names: Collection[str]) -> dict[str, Job]:
        """Two questions for all: the jobs and their pods."""
        with self._asking(ALL_JOBS):
            jobs = [job for job in self._jobs() if note_of(job, NAME_NOTE) in names]
            pods = self._pods(OURS)
        active = {}
        for job in jobs:
            owned = [pod for pod in pods if pod["metadata"]["labels"].get(OWNER_LABEL) == job["metadata"]["uid"]]
            state, name = state_of(job, telling(owned)), note_of(job, NAME_NOTE)
            if state not in ENDED:
                active[name] = Job(name, job["metadata"]["uid"], state, self._where(job))
        return active

    def stop(self, name: str, *, drain: bool = True) -> Job | None:
        with self._asking(name):
            job = self._read(name)
            if job is None:
                return None
            found = self._describe(job)
            if found.state in ENDED:
                return found
            self._suspend(job, drain)
        return self.find(name)

    @cached_property
    def _apis(self) -> tuple[BatchV1Api, CoreV1Api]:
        from kubernetes import client, config

        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        connection = client.ApiClient(configuration)
        return client.BatchV1Api(connection), client.CoreV1Api(connection)

    def _read(self, name: str) -> Resource | None:
        """The job with exactly this name in its annotation: names in Kubernetes must be shorter than ours."""
        from kubernetes.client import ApiException

        batch, _ = self._apis
        try:
            read = batch.read_namespaced_job(
                short_name(name, NAME_LIMIT), self._namespace, _request_timeout=CALL_SECONDS
            )
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        job: Resource = batch.api_client.sanitize_for_serialization(read)
        return job if note_of(job, NAME_NOTE) == name else None

    def _jobs(self) -> list[Resource]:
        """All jobs of ours."""
        batch, _ = self._apis
        listed = batch.list_namespaced_job(self._namespace, label_selector=OURS, _request_timeout=CALL_SECONDS)
        jobs: list[Resource] = batch.api_client.sanitize_for_serialization(listed.items)
        return jobs

    def _create(self, request: JobRequest) -> Resource | None:
        """Create the job; None where another starter was faster."""
        from kubernetes.client import ApiException

        batch, _ = self._apis
        manifest: Any = self._manifest(request)
        try:
            created = batch.create_namespaced_job(self._namespace, manifest, _request_timeout=CALL_SECONDS)
        except ApiException as error:
            if error.status == 409:
                return None
            raise
        job: Resource = batch.api_client.sanitize_for_serialization(created)
        return job

    def _manifest(self, request: JobRequest) -> Resource:
        job_name = short_name(request.job_name, NAME_LIMIT)
        labels = {OUR_LABEL: "rejeu", "app.kubernetes.io/instance": job_name}
        ready_text = request.ready_text
        container = {
            "name": "job",
            "image": self._image,
            "command": ["python", "-m", request.module],
            "args": [literal(word) for word in request.to_argv()],
            "env": [{"name": key, "value": literal(value)} for key, value in self._environment.items()],
            "resources": self._resources,
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
            "volumeMounts": [{"name": SCRATCH, "mountPath": "/tmp"}],
        }
        pod = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": DRAIN_SECONDS,
            "serviceAccountName": self._service_account,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            # On disk: rows that are sorted there may be more than memory holds.
            "volumes": [{"name": SCRATCH, "emptyDir": {"sizeLimit": SCRATCH_SIZE}}],
        }
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": job_name,
                "labels": labels,
                "annotations": {NAME_NOTE: request.job_name} | ({READY_NOTE: ready_text} if ready_text else {}),
            },
            "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": pod}},
        }

    def _delete(self, job: Resource) -> None:
        """Delete this very job, and return once its pods are gone too."""
        from kubernetes.client import ApiException, V1DeleteOptions, V1Preconditions

        batch, _ = self._apis
        name, uid = note_of(job, NAME_NOTE), job["metadata"]["uid"]
        this_one = V1DeleteOptions(propagation_policy="Foreground", preconditions=V1Preconditions(uid=uid))
        try:
            batch.delete_namespaced_job(
                job["metadata"]["name"], self._namespace, body=this_one, _request_timeout=CALL_SECONDS
            )
        except ApiException as error:
            if error.status not in (404, 409):  # another starter deleted it, and may have created its own
                raise

        def gone() -> bool:
            left = self._read(name)
            return left is None or left["metadata"]["uid"] != uid

        self._await(gone, name)

    def _suspend(self, job: Resource, drain: bool) -> None:
        """Suspend the job, so that Kubernetes ends its pod, and return once it has ended.

        The pods of a suspended job get SIGTERM and their grace period, and do not count as failed:
        https://kubernetes.io/docs/concepts/workloads/controllers/job/#suspending-a-job
        """
        batch, core = self._apis
        suspended = {"spec": {"suspend": True}}
        batch.patch_namespaced_job(job["metadata"]["name"], self._namespace, suspended, _request_timeout=CALL_SECONDS)
        if not drain:
            core.delete_collection_namespaced_pod(
                self._namespace,
                label_selector=owned_by(job),
                grace_period_seconds=KILL_SECONDS,
                _request_timeout=CALL_SECONDS,
            )
        self._await(lambda: phase_of(self._pod(job)) in (None, *OVER), note_of(job, NAME_NOTE))

    def _await(self, reached: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"{name} must end within {DRAIN_SECONDS} s and still has a pod after {PATIENCE_SECONDS} s. "
                    f"Check whether its node answers: kubectl get pods --namespace {self._namespace} --output wide"
                )
            time.sleep(PAUSE_SECONDS)

    def _pods(self, selector: str) -> list[Resource]:
        _, core = self._apis
        listed = core.list_namespaced_pod(self._namespace, label_selector=selector, _request_timeout=CALL_SECONDS)
        pods: list[Resource] = core.api_client.sanitize_for_serialization(listed.items)
        return pods

    def _pod(self, job: Resource) -> Resource:
        return telling(self._pods(owned_by(job)))

    def _where(self, job: Resource) -> str:
        return f"job {self._namespace}/{job['metadata']['name']}"

    def _describe(self, job: Resource) -> Job:
        pod = self._pod(job)
        state, detail = state_of(job, pod), self._where(job)
        if state is JobState.RUNNING and not self._is_ready(job, pod):
            state = JobState.STARTING
        if state is JobState.STARTING:
            detail = f"{detail}{waits_for(pod)}"
        elif state is JobState.FAILED:
            detail = f"{self._why(job, pod)} ({detail})"
        [container] = job["spec"]["template"]["spec"]["containers"]
        argv = tuple(read_literal(word) for word in container.get("args") or ())
        return Job(note_of(job, NAME_NOTE), job["metadata"]["uid"], state, detail, argv=argv)

    def _is_ready(self, job: Resource, pod: Resource) -> bool:
        from kubernetes.client import ApiException

        text = note_of(job, READY_NOTE)
        try:
            return not text or text in self._said(pod)
        except ApiException as error:
            if error.status == 404:  # the pod went away meanwhile
                return False
            raise

    def _why(self, job: Resource, pod: Resource) -> str:
        """How a failed job ended, and its last lines; if no process has run, what Kubernetes says of it."""
        for container in pod.get("status", {}).get("containerStatuses", ()):
            if ended := container["state"].get("terminated"):
                out_of_memory = ended.get("reason") == "OOMKilled"
                last = "out of memory" if out_of_memory else " | ".join(self._last_lines(pod))
                return f"exit code {ended['exitCode']}: {last}"
        why: Resource = pod.get("status") or conditions_of(job).get("Failed", {})
        return f"{why.get('reason', 'no reason given')}: {why.get('message', 'no message')}"

    def _last_lines(self, pod: Resource) -> list[str]:
        from kubernetes.client import ApiException

        try:
            return self._said(pod, tail_lines=3).strip().splitlines()
        except ApiException:  # its node is gone, or the launcher may not read logs
            return []

    def _said(self, pod: Resource, **options: Any) -> str:
        """The pod's output. Raises ApiException."""
        _, core = self._apis
        # Not decoded by the client, which is strict: a job may print any bytes.
        answer: Any = core.read_namespaced_pod_log(
            pod["metadata"]["name"], self._namespace, _preload_content=False, _request_timeout=CALL_SECONDS, **options
        )
        said: bytes = answer.data
        return said.decode(errors="replace")

    def _asking(self, name: str) -> AbstractContextManager[None]:
        from kubernetes.client import ApiException
        from kubernetes.client.exceptions import ForbiddenException, NotFoundException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError

        return translated(
            LaunchError,
            f"{name} cannot be managed by Kubernetes in namespace {self._namespace}",
            (ConfigException, "run in a cluster, or set KUBECONFIG"),
            (ForbiddenException, "grant the launcher's account jobs, pods and pods/log"),
            (NotFoundException, "make what is missing"),
            (ApiException, "mend what it names, see kubectl get events, or check the kubeconfig"),
            (HTTPError, "start the cluster, or mend the kubeconfig"),
            why=_why,
        )


def _why(error: Exception) -> str:
    """What the cluster says; an ApiException's own text has all headers of the answer."""
    from kubernetes.client import ApiException

    if not isinstance(error, ApiException):
        return str(error)
    try:
        said = json.loads(error.body or "")["message"]
    except (ValueError, KeyError):
        said = error.reason
    return f"{error.status} {said}" if error.status else str(said)  # without TLS there is no status


def _make(target: Target, environment: Mapping[str, str]) -> KubernetesLauncher:
    amounts = {"cpu": target.cpu, "memory": target.memory}
    # What is asked for is what it may have: nobody takes its memory away, and it takes nobody's.
    resources = {"requests": amounts, "limits": amounts}
    return KubernetesLauncher(target.image, target.namespace, target.service_account or None, resources=resources)


LAUNCHER = LauncherKind(_make, needs=("image", "bucket", "jobs_image"), elsewhere=True, runs_jobs=True)
