"""What the objects of Kubernetes' API say of a job, and how texts are written into them; nothing here asks the API."""

from __future__ import annotations

from typing import Any, Final

from rejeu.ports import JobState

OWNER_LABEL: Final = "batch.kubernetes.io/controller-uid"
OVER: Final = ("Succeeded", "Failed")

Resource = dict[str, Any]
"""An object of the API, as `kubectl get --output json` shows it."""


def note_of(job: Resource, key: str) -> str:
    note: str = job["metadata"].get("annotations", {}).get(key, "")
    return note


def telling(pods: list[Resource]) -> Resource:
    """Of a job's pods the running one, else one that has ended; empty where there is none."""
    return min(pods, key=lambda pod: phase_of(pod) in OVER, default={})


def owned_by(job: Resource) -> str:
    return f"{OWNER_LABEL}={job['metadata']['uid']}"


def literal(text: str) -> str:
    """The text, escaped so that Kubernetes replaces no variables in it."""
    return text.replace("$", "$$")


def read_literal(text: str) -> str:
    """The text that was escaped so."""
    return text.replace("$$", "$")


def phase_of(pod: Resource) -> str | None:
    phase: str | None = pod.get("status", {}).get("phase")
    return phase


def conditions_of(job: Resource) -> dict[str, Resource]:
    return {each["type"]: each for each in job.get("status", {}).get("conditions", ()) if each["status"] == "True"}


def state_of(job: Resource, pod: Resource) -> JobState:
    """The state by the pod while it runs, then by the job, which learns of the pod's end a little later."""
    phase, conditions = phase_of(pod), conditions_of(job)
    if phase is not None and phase not in OVER:
        if job["spec"].get("suspend"):
            return JobState.DRAINING
        return JobState.RUNNING if phase == "Running" else JobState.STARTING
    if "Complete" in conditions:
        return JobState.SUCCEEDED
    if job["spec"].get("suspend"):
        return JobState.STOPPED
    if phase == "Succeeded":
        return JobState.SUCCEEDED
    return JobState.FAILED if phase == "Failed" or "Failed" in conditions else JobState.STARTING


def waits_for(pod: Resource) -> str:
    """Why a pod does not run yet, such as `: ImagePullBackOff: ...`; empty where Kubernetes gives no reason."""
    status = pod.get("status", {})
    waiting = [each["state"].get("waiting") for each in status.get("containerStatuses", ())]
    unmet = [each for each in status.get("conditions", ()) if each["status"] == "False"]
    why: Resource = next((each for each in [*waiting, *unmet] if each and each.get("reason")), {})
    return "".join(f": {why[key]}" for key in ("reason", "message") if why.get(key))
