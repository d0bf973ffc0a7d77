"""What Kubernetes adds to the rules of ports.Launcher: what a job's object says, and what a cluster may answer."""

from __future__ import annotations

from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from kubernetes.config import kube_config

import rejeu.launchers.kubernetes
from rejeu.errors import LaunchError
from rejeu.launchers.kubernetes import KubernetesLauncher
from rejeu.ports import JobState
from rejeu.testing.launchers import NAME, SmallJob, found
from tests.fakes.kubernetes_server import IMAGE, KubernetesServer, refuse
from tests.fakes.rest import Call
from tests.launchers.rigs.kubernetes import KubernetesRig
from tests.launchers.rigs.rig import SECONDS, Build

pytestmark = pytest.mark.emulated

NAMESPACE = KubernetesServer.namespace


@pytest.fixture
def rig(build: Build) -> KubernetesRig:
    made = build(KubernetesRig)
    assert isinstance(made, KubernetesRig)
    return made


def test_a_job_has_one_pod_without_rights_that_is_neither_restarted_nor_tried_again(rig: KubernetesRig) -> None:
    rig.launcher.start(SmallJob(("say", "--topic=t", "wait")))
    [asked] = [call.body for call in rig.server.calls if call.method == "POST"]
    pod = asked["spec"]["template"]["spec"]
    [container] = pod.pop("containers")
    assert {key: asked["spec"][key] for key in asked["spec"].keys() - {"template"}} == {"backoffLimit": 0}
    assert pod == {
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 30,
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "20Gi"}}],
    }
    assert container == {
        "args": ["say", "--topic=t", "wait"],
        "command": ["python", "-m", SmallJob.module],
        "env": [],
        "image": IMAGE,
        "name": "job",
        "resources": {},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
    }


def test_account_environment_and_resources_are_the_launchers(rig: KubernetesRig) -> None:
    resources = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    launcher = KubernetesLauncher(IMAGE, NAMESPACE, "replay", {"REJEU_PROJECT": "p$(HOME)"}, resources)
    launcher.start(SmallJob(("wait",)))
    pod = rig.server.newest(NAME).job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "replay"
    assert pod["containers"][0]["env"] == [{"name": "REJEU_PROJECT", "value": "p$$(HOME)"}]
    assert pod["containers"][0]["resources"] == resources


def test_a_job_has_a_name_that_kubernetes_takes_and_a_note_with_all_of_its_own(rig: KubernetesRig) -> None:
    long = f"{NAME}-{'x' * 60}"
    rig.start(long)
    metadata = rig.server.newest(long).job["metadata"]
    assert len(metadata["name"]) == 63
    assert metadata["annotations"] == {"rejeu/job": long}
    assert metadata["labels"] == {
        "app.kubernetes.io/name": "rejeu",
        "app.kubernetes.io/instance": metadata["name"],
    }


def test_a_pod_that_cannot_start_says_why(rig: KubernetesRig) -> None:
    job = KubernetesLauncher("nowhere:1", NAMESPACE).start(SmallJob(()))
    assert (job.state, job.detail) == (
        JobState.STARTING,
        f"job {NAMESPACE}/{NAME}: ImagePullBackOff: Back-off pulling image",
    )


def test_a_pod_that_no_node_takes_says_why(rig: KubernetesRig) -> None:
    launcher = KubernetesLauncher("nowhere:1", NAMESPACE)
    launcher.start(SmallJob(()))
    rig.server.newest(NAME).unschedulable = True
    assert found(launcher).detail == f"job {NAMESPACE}/{NAME}: Unschedulable: 0/3 nodes are available"


def test_a_job_that_ran_out_of_memory_says_so(rig: KubernetesRig) -> None:
    rig.run()
    rig.server.newest(NAME).out_of_memory = True
    rig.process().kill()
    assert found(rig.launcher).detail == f"exit code 137: out of memory (job {NAMESPACE}/{NAME})"


def test_a_pod_that_cannot_start_is_stopped_all_the_same(rig: KubernetesRig) -> None:
    rig.launcher = KubernetesLauncher("nowhere:1", NAMESPACE)
    rig.launcher.start(SmallJob(()))
    job = rig.launcher.stop(NAME)
    assert job is not None
    assert (job.state, rig.server.pods) == (JobState.STOPPED, [])


def test_a_job_that_was_stopped_stays_behind_suspended_without_a_pod(rig: KubernetesRig) -> None:
    rig.start()
    rig.launcher.stop(NAME)
    assert rig.server.jobs[NAME]["spec"]["suspend"] is True
    assert rig.server.pods == []


def test_a_drained_pod_has_its_grace_and_another_a_second(rig: KubernetesRig) -> None:
    for drain in (True, False):
        rig.start()
        rig.launcher.stop(NAME, drain=drain)
    [deletion] = [call for call in rig.server.calls if call.method == "DELETE" and call.path.endswith("/pods")]
    assert deletion.query["gracePeriodSeconds"] == "1"


def test_a_job_that_does_not_listen_is_killed_in_the_end(rig: KubernetesRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejeu.launchers.kubernetes, "DRAIN_SECONDS", 1)
    rig.run("deaf")
    job = rig.launcher.stop(NAME)
    assert job is not None
    assert (job.state, rig.process().exit_code) == (JobState.STOPPED, 137)


def test_a_pod_that_went_before_its_job_was_seen_to_be_suspended_was_stopped_too(rig: KubernetesRig) -> None:
    """The controller then counts the pod as failed."""
    rig.server.controller_away = True
    rig.run("deaf")
    job = rig.launcher.stop(NAME, drain=False)
    assert [each["type"] for each in rig.server.jobs[NAME]["status"]["conditions"]] == ["Failed"]
    assert job is not None
    assert job.state is JobState.STOPPED


def test_a_pod_that_does_not_go_is_a_launch_error(rig: KubernetesRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejeu.launchers.kubernetes, "PATIENCE_SECONDS", 0)
    rig.server.controller_away = True
    rig.start()
    with pytest.raises(LaunchError, match=r"still has a pod after 0 s\. Check whether its node answers"):
        rig.launcher.stop(NAME)


def test_a_job_whose_pod_was_taken_away_has_failed_and_says_what_kubernetes_says(rig: KubernetesRig) -> None:
    rig.run()
    rig.server.lose(rig.server.newest(NAME))
    assert found(rig.launcher).detail == (
        f"BackoffLimitExceeded: Job has reached the specified backoff limit (job {NAMESPACE}/{NAME})"
    )
    assert found(rig.launcher).state is JobState.FAILED


def test_a_job_that_somebody_deletes_is_awaited_and_started_afresh(
    rig: KubernetesRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejeu.launchers.kubernetes, "DRAIN_SECONDS", 1)
    before = rig.run("deaf")
    path = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{NAME}"
    urlopen(
        Request(f"http://{rig.server.address}{path}", b'{"propagationPolicy": "Foreground"}', method="DELETE"),
        timeout=SECONDS,
    ).close()
    after = rig.start()
    assert after.id != before.id
    assert [pod.phase for pod in rig.server.made] == ["Failed", "Running"]


def test_a_starter_that_is_overtaken_leaves_the_others_job_alone(rig: KubernetesRig) -> None:
    """Both saw the job that had ended; the other one has replaced it by now."""
    rig.end(3)

    def overtake(call: Call) -> None:
        if call.method == "DELETE" and rig.made() == 1:
            rig.server.on_call = lambda call: None
            rig.another().start(SmallJob(("wait",)))

    rig.server.on_call = overtake
    job = rig.launcher.start(SmallJob(("wait",)))
    assert (job.id, rig.made()) == (rig.server.newest(NAME).job["metadata"]["uid"], 2)
    assert rig.lives()


def test_a_pod_that_goes_away_while_it_is_looked_at_is_not_ready(rig: KubernetesRig) -> None:
    def remove(call: Call) -> None:
        if call.path.endswith("/log"):
            rig.server.pods.clear()

    rig.run("say", "ready", ready_text="ready")
    rig.server.on_call = remove
    assert found(rig.launcher).state is JobState.STARTING


def test_a_refusal_says_who_is_to_be_granted_what(rig: KubernetesRig) -> None:

    def forbid(call: Call) -> None:
        raise refuse(403, "Forbidden", 'jobs.batch is forbidden: User "airflow" cannot get resource "jobs"')

    rig.server.on_call = forbid
    with pytest.raises(LaunchError) as caught:
        rig.launcher.find(NAME)
    assert str(caught.value) == (
        f"{NAME} cannot be managed by Kubernetes in namespace {NAMESPACE}: "
        '403 jobs.batch is forbidden: User "airflow" cannot get resource "jobs"; '
        "grant the launcher's account jobs, pods and pods/log"
    )


def test_a_namespace_that_is_not_there_is_a_launch_error(rig: KubernetesRig) -> None:
    with pytest.raises(LaunchError, match=r'in namespace nowhere: 404 .* "nowhere" not found; make what is missing'):
        KubernetesLauncher(IMAGE, "nowhere").start(SmallJob(()))


def test_a_name_that_somebody_elses_job_has_is_said(rig: KubernetesRig) -> None:
    rig.start()
    rig.server.jobs[NAME]["metadata"]["annotations"] = {}
    with pytest.raises(LaunchError, match="by a foreign job"):
        rig.launcher.start(SmallJob(()))
    assert rig.launcher.find(NAME) is None


def test_without_a_cluster_a_launch_error_says_how_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "nothing"))
    with pytest.raises(LaunchError, match=r"Kubernetes in namespace default: .*; run in a cluster, or set KUBECONFIG"):
        KubernetesLauncher(IMAGE).find(NAME)
