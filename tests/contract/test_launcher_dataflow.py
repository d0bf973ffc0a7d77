"""What Dataflow adds to the rules of ports.Launcher: what it is told, updates in place, drains, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rejeu.cli import main
from rejeu.errors import LaunchError
from rejeu.jobs.request import StreamJobRequest
from rejeu.launchers import dataflow
from rejeu.ports import JobState
from rejeu.spec.workers import REQUEST_LABEL, Workers
from tests.contract.benches.bench import NAME, SmallJob, found
from tests.contract.benches.dataflow import DataflowBench
from tests.contract.conftest import Build
from tests.fakes.dataflow_server import refusal

REQUEST = StreamJobRequest(
    stream="crypto_rates",
    pipeline="rates",
    subscription="projects/a-project/subscriptions/rates",
    table="a-project.live.rates",
    dead_letters="a-project.live.dead",
    event_time="timestamp",
)
ACCOUNT = "job@a-project.iam.gserviceaccount.com"


@pytest.fixture
def bench(build: Build) -> DataflowBench:
    made = build(DataflowBench)
    assert isinstance(made, DataflowBench)
    return made


def _told(bench: DataflowBench) -> Any:
    """What the newest job was launched with."""
    return bench.server.jobs[-1].launched


def _running(bench: DataflowBench, **changes: Any) -> StreamJobRequest:
    """A request whose job runs."""
    request = REQUEST.model_copy(update=changes)
    bench.launcher.start(request)
    bench.server.provision()
    return request


# What Dataflow is told


def test_the_requests_flags_are_the_templates_parameters(bench: DataflowBench) -> None:
    bench.launcher.start(REQUEST)
    assert _told(bench)["jobName"] == "rejeu-stream-crypto-rates"
    assert _told(bench)["containerSpecGcsPath"] == "gs://a-bucket/stream.json"
    assert _told(bench)["parameters"] == {
        "stream": "crypto_rates",
        "pipeline": "rates",
        "subscription": "projects/a-project/subscriptions/rates",
        "table": "a-project.live.rates",
        "dead_letters": "a-project.live.dead",
        "event_time": "timestamp",
    }


def test_the_workers_of_the_spec_are_the_jobs_environment(bench: DataflowBench) -> None:
    workers = Workers(
        max=3, machine="n2-standard-2", labels={"team": "data"}, service_account=ACCOUNT, at_least_once=True
    )
    bench.launcher.start(REQUEST.model_copy(update={"workers": workers}))
    environment = _told(bench)["environment"]
    assert environment.pop("additionalUserLabels").items() > {"team": "data"}.items()
    assert environment == {
        "enableStreamingEngine": True,
        "machineType": "n2-standard-2",
        "maxWorkers": 3,
        "sdkContainerImage": "rejeu-beam:test",
        "serviceAccountEmail": ACCOUNT,
        "stagingLocation": "gs://a-bucket/dataflow/staging",
        "streamingMode": "STREAMING_MODE_AT_LEAST_ONCE",
        "tempLocation": "gs://a-bucket/dataflow/temp",
    }
    assert "workers" not in _told(bench)["parameters"]


def test_what_a_spec_leaves_out_is_the_targets_or_dataflows(bench: DataflowBench) -> None:
    bench.another(service_account=ACCOUNT).start(REQUEST)
    environment = _told(bench)["environment"]
    assert environment["serviceAccountEmail"] == ACCOUNT
    assert {"machineType", "maxWorkers", "streamingMode"} & set(environment) == set()


# States


def test_a_job_is_starting_until_it_has_workers(bench: DataflowBench) -> None:
    job = bench.launcher.start(REQUEST)
    assert job.state is JobState.STARTING
    assert bench.launcher.start(REQUEST).id == job.id
    bench.server.provision()
    assert found(bench.launcher, job.name).state is JobState.RUNNING


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("STOPPED", JobState.STARTING),
        ("PENDING", JobState.STARTING),
        ("PAUSED", JobState.RUNNING),
        ("DRAINING", JobState.RUNNING),
        ("DRAINED", JobState.STOPPED),
        ("UPDATED", JobState.STOPPED),
    ],
)
def test_the_rarer_states_are_known_too(bench: DataflowBench, theirs: str, ours: JobState) -> None:
    bench.start()
    bench.server.move(bench.server.jobs[-1], theirs)
    assert found(bench.launcher).state is ours


def test_a_job_says_its_last_error_since_when_and_where_to_look(bench: DataflowBench) -> None:
    bench.start()
    bench.server.move(bench.server.jobs[-1], "FAILED", "Worker pool failed to activate.", "Workflow failed.")
    assert found(bench.launcher).detail == (
        "Workflow failed. (JOB_STATE_FAILED since 2026-11-01T00:00:01.500000Z, "
        "https://console.cloud.google.com/dataflow/jobs/europe-west1/job-1?project=a-project)"
    )


def test_a_job_whose_template_failed_says_where_its_own_words_are(bench: DataflowBench) -> None:
    bench.start()
    text = "Error occurred in the launcher container: Template launch failed. See console logs."
    bench.server.move(bench.server.jobs[-1], "FAILED", text)
    log = "gs://a-bucket/dataflow/staging/template_launches/job-1/console_logs"
    assert found(bench.launcher).detail.startswith(f"{text} ({log} says why)")


def test_the_newest_job_is_found_behind_many_and_beside_those_whose_names_begin_with_its_own(
    bench: DataflowBench,
) -> None:
    for _ in range(5):
        bench.end(0)
    own = bench.end(3)
    bench.start(f"{NAME}-2")
    assert found(bench.launcher) == own
    assert bench.start().id == bench.server.jobs[-1].id


def test_dataflow_is_best_left_alone_for_a_while(bench: DataflowBench) -> None:
    assert bench.start().rest_seconds == dataflow.REST_SECONDS


# Starters


def test_a_job_that_another_starter_made_meanwhile_is_adopted(bench: DataflowBench) -> None:
    bench.server.before["launch"] = lambda: bench.another().start(REQUEST)
    assert bench.launcher.start(REQUEST).id == "job-1"
    assert bench.made() == 1


def test_a_job_that_is_draining_is_not_taken_for_one_that_runs(bench: DataflowBench) -> None:
    request = _running(bench)
    bench.server.move(bench.server.jobs[-1], "DRAINING")
    with pytest.raises(LaunchError, match=r"is ending \(JOB_STATE_DRAINING\).*: start it again once it has ended"):
        bench.launcher.start(request)


def test_a_job_that_runs_with_other_arguments_is_adopted_and_said_to_be_so(
    bench: DataflowBench, caplog: pytest.LogCaptureFixture
) -> None:
    request = _running(bench)
    bench.launcher.start(request)
    assert caplog.messages == []
    assert bench.launcher.start(request.model_copy(update={"table": "a-project.live.other"})).id == "job-1"
    (said,) = caplog.messages
    assert said.startswith("rejeu-stream-crypto-rates: runs with other arguments")
    assert "`rejeu update`" in said


# Updates in place


def test_a_job_that_is_asked_for_something_else_is_replaced_in_place(bench: DataflowBench) -> None:
    request = _running(bench).model_copy(update={"workers": Workers(max=9)})
    bench.server.on_call = lambda call: bench.server.provision() if call.method == "GET" else None
    job = bench.launcher.update(request, {"insert": "append"})
    assert (job.id, job.state) == ("job-2", JobState.RUNNING)
    assert _told(bench)["update"] is True
    assert _told(bench)["transformNameMappings"] == {"insert": "append"}
    assert bench.server.jobs[0].state == "JOB_STATE_UPDATED"
    assert found(bench.launcher, job.name) == job
    assert bench.launcher.update(request) == job


def test_a_job_that_does_what_is_asked_is_left_alone(bench: DataflowBench) -> None:
    request = _running(bench)
    assert bench.launcher.update(request).id == "job-1"
    assert bench.made() == 1


@pytest.mark.parametrize("change", ["image", "template"])
def test_another_image_or_template_is_something_else_to_do(bench: DataflowBench, change: str) -> None:
    request = _running(bench)
    asked = _told(bench)["environment"]["additionalUserLabels"][REQUEST_LABEL]
    bench.server.on_call = lambda call: bench.server.provision() if call.method == "GET" else None
    bench.another(**{change: "gs://a-bucket/new"}).update(request)
    assert _told(bench)["environment"]["additionalUserLabels"][REQUEST_LABEL] != asked


def test_where_none_lives_an_update_starts_one(bench: DataflowBench) -> None:
    assert bench.launcher.update(REQUEST).state is JobState.STARTING
    assert "update" not in _told(bench)


def test_an_incompatible_update_leaves_the_old_job_and_says_why(bench: DataflowBench) -> None:
    request = _running(bench).model_copy(update={"table": "a-project.live.other"})
    bench.server.incompatible = "the new job lacks the step insert"
    bench.server.on_call = lambda call: bench.server.provision() if call.method == "GET" else None
    with pytest.raises(LaunchError, match=r"lacks the step insert.* The old job job-1 runs on; .*--renamed"):
        bench.launcher.update(request)
    running = found(bench.launcher, request.job_name)
    assert (running.id, running.state) == ("job-1", JobState.RUNNING)


def test_an_update_that_never_decides_is_an_error(bench: DataflowBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataflow, "UPDATE_SECONDS", 0.1)
    request = _running(bench)
    with pytest.raises(LaunchError, match=r"was not updated in place: .*JOB_STATE_QUEUED"):
        bench.launcher.update(request.model_copy(update={"table": "a-project.live.other"}))


# Stopping


def test_a_job_is_drained_unless_it_is_to_be_quick(bench: DataflowBench) -> None:
    bench.start()
    bench.launcher.stop(NAME)
    bench.start()
    bench.launcher.stop(NAME, drain=False)
    assert [job.state for job in bench.server.jobs] == ["JOB_STATE_DRAINED", "JOB_STATE_CANCELLED"]


def test_a_job_that_waits_for_workers_is_cancelled_for_it_has_nothing_to_drain(bench: DataflowBench) -> None:
    bench.launcher.start(SmallJob(()))
    bench.launcher.stop(NAME)
    assert bench.server.jobs[-1].state == "JOB_STATE_CANCELLED"


def test_a_job_that_drains_too_long_is_an_error_that_names_it(
    bench: DataflowBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataflow, "STOP_SECONDS", 0.1)
    bench.start()
    bench.server.slow = True
    for _ in range(2):
        with pytest.raises(LaunchError, match=rf"^{NAME} still runs .*JOB_STATE_DRAINING.*jobs/europe-west1/job-1"):
            bench.launcher.stop(NAME)
    bench.server.slow = False
    bench.launcher.stop(NAME, drain=False)
    assert bench.server.jobs[-1].state == "JOB_STATE_CANCELLED"


def test_a_job_that_ends_while_it_is_stopped_has_ended(bench: DataflowBench) -> None:
    bench.start()
    bench.server.before["update"] = lambda: bench.server.move(bench.server.jobs[-1], "FAILED", "out of memory")
    stopped = bench.launcher.stop(NAME)
    assert stopped is not None
    assert stopped.state is JobState.FAILED


# Refusals


def test_what_is_not_permitted_is_an_error_that_names_the_roles(bench: DataflowBench) -> None:
    bench.start()
    bench.server.denied = True
    for use in (
        lambda: bench.launcher.start(SmallJob(())),
        lambda: bench.launcher.update(SmallJob(())),
        lambda: bench.launcher.find(NAME),
        lambda: bench.launcher.stop(NAME),
    ):
        with pytest.raises(LaunchError, match=r"403 .* denied .*\. Grant whoever asks roles/dataflow\.developer"):
            use()


def test_what_is_wrong_is_an_error_that_says_what_to_correct(bench: DataflowBench) -> None:
    with pytest.raises(LaunchError, match=r"400 .*template file 'nowhere'\. Correct what the target says"):
        bench.another(template="nowhere").start(SmallJob(()))


def test_a_service_that_is_away_for_a_moment_is_asked_again(bench: DataflowBench) -> None:
    def away() -> None:
        raise refusal(503, "UNAVAILABLE", "try again")

    job = bench.start()
    bench.server.before["list"] = away
    assert bench.another(patience=5).find(NAME) == job


def test_without_credentials_it_says_how_to_get_some(
    bench: DataflowBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DATAFLOW_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(LaunchError, match=r"Dataflow cannot be asked: .*none\.json was not found.*gcloud auth"):
        bench.launcher.find(NAME)


# The command


def test_the_command_has_the_running_job_do_what_the_spec_says_now(
    bench: DataflowBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = {"PROJECT": "a-project", "REGION": "europe-west1", "BUCKET": "a-bucket", "JOBS": "dataflow"}
    target |= {"TEMPLATE": "gs://a-bucket/stream.json", "JOBS_IMAGE": "rejeu-beam:test", "HOME": str(tmp_path)}
    for name, value in target.items():
        monkeypatch.setenv(f"REJEU_{name}", value)
    spec = tmp_path / "crypto_rates.yaml"
    live = "{topic: rates, table: live.rates, workers: {max: 9}}"
    spec.write_text(f"stream: crypto_rates\nevent_time: at\nlive: {live}\nwatchdog: {{probe: tap}}\n", encoding="utf-8")
    _running(bench)
    bench.server.on_call = lambda call: bench.server.provision() if call.method == "GET" else None
    assert main(["update", str(spec), "--renamed", "insert=append"]) == 0
    assert "rejeu-stream-crypto-rates is running (JOB_STATE_RUNNING" in capsys.readouterr().out
    assert _told(bench)["environment"]["maxWorkers"] == 9
    assert _told(bench)["transformNameMappings"] == {"insert": "append"}
