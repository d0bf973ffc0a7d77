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
from tests.contract.benches.bench import NAME, SmallJob, found
from tests.contract.benches.cloud_run import CloudRunBench
from tests.contract.conftest import Build
from tests.fakes.cloud_run_server import Refusal

PATH = f"projects/a-project/locations/europe-west1/jobs/{NAME}"


@pytest.fixture
def bench(build: Build) -> CloudRunBench:
    made = build(CloudRunBench)
    assert isinstance(made, CloudRunBench)
    return made


def _declare_and_die(annotations: Mapping[str, str] = MappingProxyType({"rejeu-job": NAME})) -> None:
    """Another starter declares the job, and is gone before it runs it."""
    container = run_v2.Container(image="rejeu-replay:other", command=["python", "-m", "small_job"])
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


def test_a_task_runs_for_a_week_and_is_never_run_again(bench: CloudRunBench) -> None:
    bench.start()
    task = bench.server.jobs[PATH].template.template
    assert task.timeout == timedelta(hours=168)
    assert run_v2.TaskTemplate.pb(task).WhichOneof("retries") == "max_retries"
    assert task.max_retries == 0


def test_the_job_is_the_targets_image_and_the_requests_module(bench: CloudRunBench) -> None:
    settings = {"service_account": "replay@a-project.iam.gserviceaccount.com", "environment": {"REJEU_BUCKET": "b"}}
    bench.another(cpu="2", memory="4Gi", **settings).start(SmallJob(("exit", "0")))
    task = bench.server.jobs[PATH].template.template
    (container,) = task.containers
    assert task.service_account == settings["service_account"]
    assert (container.image, list(container.command)) == ("rejeu-replay:test", ["python", "-m", "small_job"])
    assert {each.name: each.value for each in container.env} == settings["environment"]
    assert dict(container.resources.limits) == {"cpu": "2", "memory": "4Gi"}


def test_arguments_are_the_executions_own_and_arrive_as_they_are(bench: CloudRunBench) -> None:
    odd = "$HOME $(HOME) 'quoted' \"twice\" ; exit 9 é\nsecond line"
    bench.ended("say", odd, "exit", "0")
    assert list(bench.server.jobs[PATH].template.template.containers[0].args) == []
    assert bench.processes()[0].said().decode() == odd + "\n"


def test_a_job_may_have_a_task_for_each_shard(bench: CloudRunBench) -> None:
    bench.another(tasks=3).start(SmallJob(("wait",)))
    template = bench.server.jobs[PATH].template
    assert (template.task_count, template.parallelism, len(bench.processes())) == (3, 3, 3)


def test_another_image_is_run_from_the_next_start_on(bench: CloudRunBench) -> None:
    bench.start()
    newer = bench.another(image="rejeu-replay:newer")
    newer.start(SmallJob(("wait",)))
    assert bench.server.jobs[PATH].template.template.containers[0].image == "rejeu-replay:test"
    newer.stop(NAME)
    newer.start(SmallJob(("wait",)))
    assert bench.server.runs[-1].execution.template.containers[0].image == "rejeu-replay:newer"


# States


def test_a_job_is_starting_until_it_has_a_machine(bench: CloudRunBench) -> None:
    bench.server.holds = True
    job = bench.launcher.start(SmallJob(("wait",)))
    assert (job.state, found(bench.another()).state) == (JobState.STARTING, JobState.STARTING)
    assert bench.launcher.start(SmallJob(("exit", "1"))).id == job.id
    bench.server.release()
    assert found(bench.launcher).state is JobState.RUNNING


def test_a_job_that_waits_for_a_machine_is_stopped_too(bench: CloudRunBench) -> None:
    bench.server.holds = True
    bench.launcher.start(SmallJob(("wait",)))
    stopped = bench.launcher.stop(NAME)
    assert stopped is not None
    assert stopped.state is JobState.STOPPED


def test_a_job_says_where_its_logs_are(bench: CloudRunBench) -> None:
    job = bench.end(3)
    execution = job.id.rpartition("/")[2]
    assert job.detail == (
        "exit code 3: Task failed with message: The container exited with an error. "
        f"(logs https://console.cloud.google.com/logs?execution={execution})"
    )


def test_a_job_that_was_killed_from_outside_has_failed(bench: CloudRunBench) -> None:
    bench.start()
    bench.processes()[0].kill()
    job = found(bench.launcher)
    assert (job.state, job.detail.partition(":")[0]) == (JobState.FAILED, "signal 9")


def test_one_task_that_fails_has_failed_the_job(bench: CloudRunBench) -> None:
    bench.another(tasks=2).start(SmallJob(("wait",)))
    first, second = bench.processes()
    second.kill()
    assert found(bench.launcher).state is JobState.RUNNING
    first.terminate(0)
    assert found(bench.launcher).state is JobState.FAILED


def test_a_job_that_was_declared_and_never_run_is_none(bench: CloudRunBench) -> None:
    _declare_and_die()
    assert bench.launcher.find(NAME) is None


def test_an_execution_of_another_name_is_not_found_by_its_shortened_one(bench: CloudRunBench) -> None:
    bench.start("rejeu-replay-" + "x" * 60)
    shortened = bench.server.runs[-1].execution.job.rpartition("/")[2]
    assert bench.launcher.find(shortened) is None


def test_a_job_of_somebody_else_that_has_the_name_is_not_ours(bench: CloudRunBench) -> None:
    _declare_and_die(annotations={})
    _run()
    assert bench.launcher.find(NAME) is None


# Stopping


def test_a_job_is_asked_to_end(bench: CloudRunBench) -> None:
    bench.start()
    stopped = bench.launcher.stop(NAME)
    assert stopped is not None
    assert stopped.state is JobState.STOPPED
    assert bench.processes()[0].said() == b"drained\n"


def test_a_job_that_does_not_listen_is_killed_in_the_end(bench: CloudRunBench) -> None:
    bench.server.grace = 0.1
    bench.run("deaf")
    stopped = bench.launcher.stop(NAME)
    assert stopped is not None
    assert (stopped.state, bench.processes()[0].exit_code) == (JobState.STOPPED, 137)


def test_a_job_that_ends_while_it_is_stopped_has_ended(bench: CloudRunBench) -> None:
    bench.start()
    bench.server.before[run_v2.CancelExecutionRequest] = bench.processes()[0].kill
    stopped = bench.launcher.stop(NAME)
    assert stopped is not None
    assert stopped.state is JobState.FAILED


def test_a_job_that_does_not_end_is_an_error_that_names_it(
    bench: CloudRunBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_run, "STOP_SECONDS", 0.1)
    job = bench.run("deaf")
    with pytest.raises(LaunchError, match=f"still runs .* Delete the execution {job.id}$"):
        bench.launcher.stop(NAME)


# Starters


def test_a_starter_that_is_overtaken_adopts_what_the_other_runs(bench: CloudRunBench) -> None:
    bench.server.before[run_v2.RunJobRequest] = lambda: bench.another().start(SmallJob(("wait",)))
    job = bench.launcher.start(SmallJob(("exit", "1")))
    assert bench.made() == 1
    assert found(bench.launcher) == job


def test_a_starter_that_comes_late_adopts_what_runs_by_now(bench: CloudRunBench) -> None:
    bench.server.before[run_v2.UpdateJobRequest] = lambda: bench.another().start(SmallJob(("wait",)))
    job = bench.launcher.start(SmallJob(("exit", "1")))
    assert bench.made() == 1
    assert found(bench.launcher) == job


def test_a_starter_that_is_overtaken_gives_the_other_time(bench: CloudRunBench) -> None:
    """The other declares the job before ours is run, and runs it at the third look of ours."""

    def overtake() -> None:
        _declare_and_die()
        bench.server.before[run_v2.ListExecutionsRequest] = look_again

    def look_again() -> None:
        bench.server.before[run_v2.ListExecutionsRequest] = look_a_third_time

    def look_a_third_time() -> None:
        bench.server.before[run_v2.ListExecutionsRequest] = _run

    bench.server.before[run_v2.RunJobRequest] = overtake
    assert bench.launcher.start(SmallJob(("exit", "1"))).state is JobState.RUNNING
    assert (bench.made(), len(bench.server.asked(run_v2.UpdateJobRequest))) == (1, 2)


def test_a_starter_that_died_before_it_ran_the_job_is_in_nobodys_way(bench: CloudRunBench) -> None:
    _declare_and_die()
    assert bench.start().state is JobState.RUNNING


def test_a_starter_that_overtook_and_died_is_waited_for_and_then_overtaken(
    bench: CloudRunBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_run, "CLAIM_SECONDS", 0.1)
    bench.server.before[run_v2.RunJobRequest] = _declare_and_die
    assert bench.start().state is JobState.RUNNING
    assert bench.made() == 1
    assert bench.server.runs[-1].execution.template.containers[0].image == "rejeu-replay:test"


def test_a_job_that_is_never_let_run_is_an_error_that_says_why(
    bench: CloudRunBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtake() -> None:
        _declare_and_die()
        bench.server.before[run_v2.RunJobRequest] = overtake

    monkeypatch.setattr(cloud_run, "CLAIM_SECONDS", 0.1)
    overtake()
    with pytest.raises(LaunchError, match=f"^{NAME} .* Conflict for resource .*"):
        bench.launcher.start(SmallJob(("wait",)))
    assert bench.made() == 0


# Refusals


def test_what_is_not_permitted_is_an_error_that_names_the_roles(bench: CloudRunBench) -> None:
    bench.start()
    bench.server.denied = True
    for use in (lambda: bench.launcher.start(SmallJob(())), lambda: bench.launcher.stop(NAME)):
        with pytest.raises(LaunchError, match=r"403 Permission .* denied .*\. Grant whoever asks roles/run\.developer"):
            use()


def test_a_service_that_is_away_for_a_moment_is_asked_again(bench: CloudRunBench) -> None:
    def away() -> None:
        raise Refusal(grpc.StatusCode.UNAVAILABLE, "try again")

    job = bench.start()
    bench.server.before[run_v2.ListExecutionsRequest] = away
    assert bench.another(patience=5).find(NAME) == job


def test_without_credentials_it_says_how_to_get_some(
    bench: CloudRunBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CLOUD_RUN_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(LaunchError, match=r"none\.json was not found.*gcloud auth application-default login"):
        bench.launcher.find(NAME)
