"""What Cloud Run adds to the rules of ports.Launcher: what it is told, and how starters agree without a lock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import grpc
import pytest
from google.cloud import run_v2

from rejeu.errors import LaunchError
from rejeu.gcp.clients import cloud_run_client
from rejeu.launchers import cloud_run
from rejeu.ports import JobState
from rejeu.testing.launchers import NAME, SmallJob, found
from tests.fakes.cloud_run_server import Refusal
from tests.launchers.rigs.cloud_run import CloudRunRig
from tests.launchers.rigs.rig import Build

pytestmark = pytest.mark.emulated

PATH = f"projects/a-project/locations/europe-west1/jobs/{NAME}"


@pytest.fixture
def rig(build: Build) -> CloudRunRig:
    made = build(CloudRunRig)
    assert isinstance(made, CloudRunRig)
    return made


def _declare_and_die(annotations: Mapping[str, str] = MappingProxyType({"rejeu-job": NAME})) -> None:
    """Another starter declares the job, and is gone before it runs it."""
    container = run_v2.Container(image="rejeu-replay:other", command=["python", "-m", SmallJob.module])
    template = run_v2.ExecutionTemplate(
        annotations=dict(annotations), task_count=1, template=run_v2.TaskTemplate(containers=[container])
    )
    job = run_v2.Job(name=PATH, template=template)
    cloud_run_client(run_v2.JobsClient).update_job(run_v2.UpdateJobRequest(job=job, allow_missing=True)).result()


def _run() -> None:
    """Somebody runs the job as it was declared."""
    words = run_v2.RunJobRequest.Overrides.ContainerOverride(args=["wait"])
    overrides = run_v2.RunJobRequest.Overrides(container_overrides=[words])
    cloud_run_client(run_v2.JobsClient).run_job(run_v2.RunJobRequest(name=PATH, overrides=overrides))


# What Cloud Run is told


def test_a_task_runs_for_a_week_and_is_never_run_again(rig: CloudRunRig) -> None:
    rig.start()
    task = rig.server.jobs[PATH].template.template
    assert task.timeout == timedelta(hours=168)
    assert run_v2.TaskTemplate.pb(task).WhichOneof("retries") == "max_retries"
    assert task.max_retries == 0


def test_the_job_is_the_targets_image_and_the_requests_module(rig: CloudRunRig) -> None:
    settings = {"service_account": "replay@a-project.iam.gserviceaccount.com", "environment": {"REJEU_BUCKET": "b"}}
    rig.another(cpu="2", memory="4Gi", **settings).start(SmallJob(("exit", "0")))
    task = rig.server.jobs[PATH].template.template
    (container,) = task.containers
    assert task.service_account == settings["service_account"]
    assert (container.image, list(container.command)) == ("rejeu-replay:test", ["python", "-m", SmallJob.module])
    assert {each.name: each.value for each in container.env} == settings["environment"]
    assert dict(container.resources.limits) == {"cpu": "2", "memory": "4Gi"}


def test_arguments_are_the_executions_own_and_arrive_as_they_are(rig: CloudRunRig) -> None:
    odd = "$HOME $(HOME) 'quoted' \"twice\" ; exit 9 é\nsecond line"
    rig.ended("say", odd, "exit", "0")
    assert list(rig.server.jobs[PATH].template.template.containers[0].args) == []
    assert rig.processes()[0].said().decode() == odd + "\n"
    assert found(rig.another()).argv == ("say", odd, "exit", "0")


def test_a_job_may_have_a_task_for_each_shard(rig: CloudRunRig) -> None:
    rig.another(tasks=3).start(SmallJob(("wait",)))
    template = rig.server.jobs[PATH].template
    assert (template.task_count, template.parallelism, len(rig.processes())) == (3, 3, 3)


def test_another_image_is_run_from_the_next_start_on(rig: CloudRunRig) -> None:
    rig.start()
    newer = rig.another(image="rejeu-replay:newer")
    newer.start(SmallJob(("wait",)))
    assert rig.server.jobs[PATH].template.template.containers[0].image == "rejeu-replay:test"
    newer.stop(NAME)
    newer.start(SmallJob(("wait",)))
    assert rig.server.runs[-1].execution.template.containers[0].image == "rejeu-replay:newer"


# States


def test_a_job_is_starting_until_it_has_a_machine(rig: CloudRunRig) -> None:
    rig.server.holds = True
    job = rig.launcher.start(SmallJob(("wait",)))
    assert (job.state, found(rig.another()).state) == (JobState.STARTING, JobState.STARTING)
    assert rig.launcher.start(SmallJob(("exit", "1"))).id == job.id
    rig.server.release()
    assert found(rig.launcher).state is JobState.RUNNING


def test_a_job_that_waits_for_a_machine_is_stopped_too(rig: CloudRunRig) -> None:
    rig.server.holds = True
    rig.launcher.start(SmallJob(("wait",)))
    stopped = rig.launcher.stop(NAME)
    assert stopped is not None
    assert stopped.state is JobState.STOPPED


def test_a_job_says_where_its_logs_are(rig: CloudRunRig) -> None:
    job = rig.end(3)
    execution = job.id.rpartition("/")[2]
    assert job.detail == (
        "exit code 3: Task failed with message: The container exited with an error. "
        f"(logs https://console.cloud.google.com/logs?execution={execution})"
    )


def test_a_job_that_was_killed_from_outside_has_failed(rig: CloudRunRig) -> None:
    rig.start()
    rig.processes()[0].kill()
    job = found(rig.launcher)
    assert (job.state, job.detail.partition(":")[0]) == (JobState.FAILED, "signal 9")


def test_one_task_that_fails_has_failed_the_job(rig: CloudRunRig) -> None:
    rig.another(tasks=2).start(SmallJob(("wait",)))
    first, second = rig.processes()
    second.kill()
    assert found(rig.launcher).state is JobState.RUNNING
    first.terminate(0)
    assert found(rig.launcher).state is JobState.FAILED


def test_a_job_that_was_declared_and_never_run_is_none(rig: CloudRunRig) -> None:
    _declare_and_die()
    assert rig.launcher.find(NAME) is None


def test_an_execution_of_another_name_is_not_found_by_its_shortened_one(rig: CloudRunRig) -> None:
    rig.start("rejeu-replay-" + "x" * 60)
    shortened = rig.server.runs[-1].execution.job.rpartition("/")[2]
    assert rig.launcher.find(shortened) is None


def test_a_job_of_somebody_else_that_has_the_name_is_not_ours(rig: CloudRunRig) -> None:
    _declare_and_die(annotations={})
    _run()
    assert rig.launcher.find(NAME) is None


# Stopping


def test_a_job_is_asked_to_end(rig: CloudRunRig) -> None:
    rig.start()
    stopped = rig.launcher.stop(NAME)
    assert stopped is not None
    assert stopped.state is JobState.STOPPED
    assert rig.processes()[0].said() == b"drained\n"


def test_a_job_that_does_not_listen_is_killed_in_the_end(rig: CloudRunRig) -> None:
    rig.server.grace = 0.1
    rig.run("deaf")
    stopped = rig.launcher.stop(NAME)
    assert stopped is not None
    assert (stopped.state, rig.processes()[0].exit_code) == (JobState.STOPPED, 137)


def test_a_job_that_ends_while_it_is_stopped_has_ended(rig: CloudRunRig) -> None:
    rig.start()
    rig.server.before[run_v2.CancelExecutionRequest] = rig.processes()[0].kill
    stopped = rig.launcher.stop(NAME)
    assert stopped is not None
    assert stopped.state is JobState.FAILED


def test_a_job_that_does_not_end_is_an_error_that_names_it(rig: CloudRunRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_run, "STOP_SECONDS", 0.1)
    job = rig.run("deaf")
    with pytest.raises(LaunchError, match=f"still runs .* Delete the execution {job.id}$"):
        rig.launcher.stop(NAME)
    drains = rig.launcher.start(SmallJob(("wait",)))
    assert (drains.id, drains.state, rig.made()) == (job.id, JobState.DRAINING, 1)


# Starters


def test_a_starter_that_is_overtaken_adopts_what_the_other_runs(rig: CloudRunRig) -> None:
    rig.server.before[run_v2.RunJobRequest] = lambda: rig.another().start(SmallJob(("wait",)))
    job = rig.launcher.start(SmallJob(("exit", "1")))
    assert rig.made() == 1
    assert found(rig.launcher) == job


def test_a_starter_that_comes_late_adopts_what_runs_by_now(rig: CloudRunRig) -> None:
    rig.server.before[run_v2.UpdateJobRequest] = lambda: rig.another().start(SmallJob(("wait",)))
    job = rig.launcher.start(SmallJob(("exit", "1")))
    assert rig.made() == 1
    assert found(rig.launcher) == job


def test_a_starter_that_is_overtaken_gives_the_other_time(rig: CloudRunRig) -> None:
    """The other declares the job before ours is run, and runs it at the third look of ours."""

    def overtake() -> None:
        _declare_and_die()
        rig.server.before[run_v2.ListExecutionsRequest] = look_again

    def look_again() -> None:
        rig.server.before[run_v2.ListExecutionsRequest] = look_a_third_time

    def look_a_third_time() -> None:
        rig.server.before[run_v2.ListExecutionsRequest] = _run

    rig.server.before[run_v2.RunJobRequest] = overtake
    assert rig.launcher.start(SmallJob(("exit", "1"))).state is JobState.RUNNING
    assert (rig.made(), len(rig.server.asked(run_v2.UpdateJobRequest))) == (1, 2)


def test_a_starter_that_died_before_it_ran_the_job_is_in_nobodys_way(rig: CloudRunRig) -> None:
    _declare_and_die()
    assert rig.start().state is JobState.RUNNING


def test_a_starter_that_overtook_and_died_is_waited_for_and_then_overtaken(
    rig: CloudRunRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_run, "CLAIM_SECONDS", 0.1)
    rig.server.before[run_v2.RunJobRequest] = _declare_and_die
    assert rig.start().state is JobState.RUNNING
    assert rig.made() == 1
    assert rig.server.runs[-1].execution.template.containers[0].image == "rejeu-replay:test"


def test_a_job_that_is_never_let_run_is_an_error_that_says_why(
    rig: CloudRunRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtake() -> None:
        _declare_and_die()
        rig.server.before[run_v2.RunJobRequest] = overtake

    monkeypatch.setattr(cloud_run, "CLAIM_SECONDS", 0.1)
    overtake()
    with pytest.raises(LaunchError, match=f"^{NAME} .* Conflict for resource .*"):
        rig.launcher.start(SmallJob(("wait",)))
    assert rig.made() == 0


# Refusals


def test_what_is_not_permitted_is_an_error_that_names_the_roles(rig: CloudRunRig) -> None:
    rig.start()
    rig.server.denied = True
    for use in (lambda: rig.launcher.start(SmallJob(())), lambda: rig.launcher.stop(NAME)):
        with pytest.raises(LaunchError, match=r"403 Permission .* denied .*; grant whoever asks roles/run\.developer"):
            use()


def test_a_service_that_is_away_for_a_moment_is_asked_again(rig: CloudRunRig) -> None:
    def away() -> None:
        raise Refusal(grpc.StatusCode.UNAVAILABLE, "try again")

    job = rig.start()
    rig.server.before[run_v2.ListExecutionsRequest] = away
    assert rig.another(patience=5).find(NAME) == job


def test_without_credentials_it_says_how_to_get_some(
    rig: CloudRunRig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CLOUD_RUN_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(LaunchError, match=r"none\.json was not found.*gcloud auth application-default login"):
        rig.launcher.find(NAME)
