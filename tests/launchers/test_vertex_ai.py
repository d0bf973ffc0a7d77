"""What Vertex AI adds to the rules of ports.Launcher: what it is told, and how starters agree on one job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rejeu.errors import LaunchError
from rejeu.launchers import vertex_ai
from rejeu.ports import JobState
from rejeu.testing.launchers import NAME, SmallJob, found
from tests.fakes.vertex_server import refusal
from tests.launchers.rigs.rig import Build
from tests.launchers.rigs.vertex_ai import VertexRig

pytestmark = pytest.mark.emulated


@pytest.fixture
def rig(build: Build) -> VertexRig:
    made = build(VertexRig)
    assert isinstance(made, VertexRig)
    return made


def _told(rig: VertexRig) -> Any:
    """What the newest job was created from."""
    return rig.server.jobs[-1].resource


# What Vertex AI is told


def test_a_job_runs_for_a_week_and_is_never_run_again(rig: VertexRig) -> None:
    rig.start()
    assert _told(rig)["jobSpec"]["scheduling"] == {
        "timeout": "604800s",
        "restartJobOnWorkerRestart": False,
        "disableRetries": True,
    }


def test_the_job_is_the_targets_image_and_the_requests_module(rig: VertexRig) -> None:
    settings = {"service_account": "replay@a-project.iam.gserviceaccount.com", "environment": {"REJEU_BUCKET": "b"}}
    rig.another(machine_type="n1-standard-4", **settings).start(SmallJob(("exit", "0")))
    spec = _told(rig)["jobSpec"]
    assert spec["serviceAccount"] == settings["service_account"]
    assert spec["workerPoolSpecs"] == [
        {
            "machineSpec": {"machineType": "n1-standard-4"},
            "replicaCount": "1",
            "containerSpec": {
                "imageUri": "rejeu-replay:test",
                "command": ["python", "-m", SmallJob.module],
                "args": ["exit", "0"],
                "env": [{"name": "REJEU_BUCKET", "value": "b"}],
            },
        }
    ]


def test_a_job_without_a_service_account_runs_as_the_services_own(rig: VertexRig) -> None:
    rig.start()
    assert "serviceAccount" not in _told(rig)["jobSpec"]


def test_a_job_has_its_name_and_a_label_that_fits(rig: VertexRig) -> None:
    name = "rejeu-replay-" + "x" * 70
    rig.start(name)
    assert _told(rig)["displayName"] == name
    assert _told(rig)["labels"]["rejeu-job"].startswith("rejeu-replay-xxx")


def test_arguments_arrive_as_they_are(rig: VertexRig) -> None:
    odd = "$HOME 'quoted' \"twice\" ; exit 9 é\nsecond line"
    rig.ended("say", odd, "exit", "0")
    assert rig.process().said().decode() == odd + "\n"


# States


def test_a_job_is_starting_until_it_has_a_machine(rig: VertexRig) -> None:
    job = rig.launcher.start(SmallJob(("wait",)))
    assert (job.state, found(rig.another())) == (JobState.STARTING, job)
    assert rig.launcher.start(SmallJob(("exit", "1"))).id == job.id
    rig.server.provision()
    assert found(rig.launcher).state is JobState.RUNNING


def test_a_job_that_waits_for_a_machine_is_stopped_too(rig: VertexRig) -> None:
    rig.launcher.start(SmallJob(("wait",)))
    stopped = rig.launcher.stop(NAME)
    assert stopped is not None
    assert (stopped.state, rig.made()) == (JobState.STOPPED, 0)


def test_a_job_says_where_its_logs_are(rig: VertexRig) -> None:
    assert rig.end(3).detail == (
        "exit code 3: The replica workerpool0-0 exited with a non-zero status of 3. "
        "To find out more about why your job exited please check the logs. "
        "(logs https://console.cloud.google.com/agent-platform/locations/europe-west1/training/1?project=a-project)"
    )


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("QUEUED", JobState.STARTING),
        ("PAUSED", JobState.STARTING),
        ("UPDATING", JobState.RUNNING),
        ("EXPIRED", JobState.FAILED),
        ("PARTIALLY_SUCCEEDED", JobState.FAILED),
    ],
)
def test_the_rarer_states_are_known_too(rig: VertexRig, theirs: str, ours: JobState) -> None:
    rig.launcher.start(SmallJob(("wait",)))
    seen = rig.server.jobs[-1].seen()
    rig.server.jobs[-1].seen = lambda: seen | {"state": f"JOB_STATE_{theirs}"}  # type: ignore[method-assign]
    assert found(rig.launcher).state is ours


def test_the_newest_job_is_found_behind_many(rig: VertexRig) -> None:
    for _ in range(5):
        rig.end(0)
    assert rig.end(3).state is JobState.FAILED
    job = rig.start()
    assert (job.id, job.state) == (rig.server.jobs[-1].name, JobState.RUNNING)


# Stopping


def test_a_job_is_cancelled_whatever_it_does_with_that(rig: VertexRig) -> None:
    rig.start()
    stopped = rig.launcher.stop(NAME)
    assert stopped is not None
    assert (stopped.state, rig.process().exit_code) == (JobState.STOPPED, 0)


def test_a_job_that_ends_while_it_is_stopped_has_ended(rig: VertexRig) -> None:
    rig.start()
    rig.server.before["cancel"] = rig.process().kill
    stopped = rig.launcher.stop(NAME)
    assert stopped is not None
    assert stopped.state is JobState.FAILED


def test_a_job_that_does_not_end_is_an_error_that_names_it(rig: VertexRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vertex_ai, "STOP_SECONDS", 0.1)
    rig.run("deaf")
    with pytest.raises(LaunchError, match=rf"^{NAME} still runs .*training/1.* Stop it again"):
        rig.launcher.stop(NAME)


# Starters


def test_the_older_of_two_jobs_stays_and_the_other_never_runs(rig: VertexRig) -> None:
    rig.server.before["create"] = lambda: rig.another().start(SmallJob(("wait",)))
    job = rig.launcher.start(SmallJob(("exit", "1")))
    assert (job.id, len(rig.server.jobs), rig.made()) == (rig.server.jobs[0].name, 2, 1)
    assert found(rig.launcher).id == job.id


def test_a_job_that_won_is_found_once_it_has_ended_though_the_other_is_newer(rig: VertexRig) -> None:
    rig.server.before["create"] = lambda: rig.another().start(SmallJob(("exit", "3")))
    job = rig.launcher.start(SmallJob(("exit", "3")))
    rig.server.provision()
    process = rig.server.jobs[0].process
    assert process is not None
    process.wait()
    ended = found(rig.launcher)
    assert (ended.id, ended.state) == (job.id, JobState.FAILED)


def test_a_second_job_that_a_dead_starter_left_is_cancelled_by_whoever_comes_next(rig: VertexRig) -> None:
    rig.start()
    rig.server.jobs.append(type(rig.server.jobs[0])(_told(rig) | {"name": f"{_told(rig)['name']}2"}))
    assert rig.launcher.start(SmallJob(("exit", "1"))).id == rig.server.jobs[0].name
    assert [job.cancelled for job in rig.server.jobs] == [False, True]


# Refusals


def test_what_is_not_permitted_is_an_error_that_names_the_roles(rig: VertexRig) -> None:
    rig.start()
    rig.server.denied = True
    for use in (
        lambda: rig.launcher.start(SmallJob(())),
        lambda: rig.launcher.find(NAME),
        lambda: rig.launcher.stop(NAME),
    ):
        with pytest.raises(LaunchError, match=r"403 .* denied .*; grant whoever asks roles/aiplatform\.user"):
            use()


def test_what_is_wrong_is_an_error_that_says_what_to_correct(rig: VertexRig) -> None:
    with pytest.raises(LaunchError, match=r"400 .*, and a machine; correct what the target says of .*image"):
        rig.another(machine_type="").start(SmallJob(()))


def test_a_service_that_is_away_for_a_moment_is_asked_again(rig: VertexRig) -> None:
    def away() -> None:
        raise refusal(503, "UNAVAILABLE", "try again")

    job = rig.start()
    rig.server.before["list"] = away
    assert rig.another(patience=5).find(NAME) == job


def test_a_job_is_not_created_twice_where_the_answer_is_lost(rig: VertexRig) -> None:
    def lost() -> None:
        raise refusal(503, "UNAVAILABLE", "the answer was lost")

    rig.server.before["create"] = lost
    with pytest.raises(LaunchError, match="the answer was lost"):
        rig.another(patience=5).start(SmallJob(("wait",)))
    assert rig.server.jobs == []


def test_without_credentials_it_says_how_to_get_some(
    rig: VertexRig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("VERTEX_AI_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(LaunchError, match=r"none\.json was not found.*gcloud auth application-default login"):
        rig.launcher.find(NAME)
