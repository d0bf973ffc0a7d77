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
from rejeu.testing.launchers import NAME, SmallJob, found
from tests.fakes.dataflow_server import refusal
from tests.launchers.rigs.dataflow import DataflowRig
from tests.launchers.rigs.rig import Build

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
def rig(build: Build) -> DataflowRig:
    made = build(DataflowRig)
    assert isinstance(made, DataflowRig)
    return made


def _told(rig: DataflowRig) -> Any:
    """What the newest job was launched with."""
    return rig.server.jobs[-1].launched


def _running(rig: DataflowRig, **changes: Any) -> StreamJobRequest:
    """A request whose job runs."""
    request = REQUEST.model_copy(update=changes)
    rig.launcher.start(request)
    rig.server.provision()
    return request


# What Dataflow is told


def test_the_requests_flags_are_the_templates_parameters(rig: DataflowRig) -> None:
    rig.launcher.start(REQUEST)
    assert _told(rig)["jobName"] == "rejeu-stream-crypto-rates"
    assert _told(rig)["containerSpecGcsPath"] == "gs://a-bucket/stream.json"
    assert _told(rig)["parameters"] == {
        "stream": "crypto_rates",
        "pipeline": "rates",
        "subscription": "projects/a-project/subscriptions/rates",
        "table": "a-project.live.rates",
        "dead_letters": "a-project.live.dead",
        "event_time": "timestamp",
    }


def test_the_workers_of_the_spec_are_the_jobs_environment(rig: DataflowRig) -> None:
    workers = Workers(
        max=3, machine="n2-standard-2", labels={"team": "data"}, service_account=ACCOUNT, at_least_once=True
    )
    rig.launcher.start(REQUEST.model_copy(update={"workers": workers}))
    environment = _told(rig)["environment"]
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
    assert "workers" not in _told(rig)["parameters"]


def test_what_a_spec_leaves_out_is_the_targets_or_dataflows(rig: DataflowRig) -> None:
    rig.another(service_account=ACCOUNT).start(REQUEST)
    environment = _told(rig)["environment"]
    assert environment["serviceAccountEmail"] == ACCOUNT
    assert {"machineType", "maxWorkers", "streamingMode"} & set(environment) == set()


# States


def test_a_job_is_starting_until_it_has_workers(rig: DataflowRig) -> None:
    job = rig.launcher.start(REQUEST)
    assert job.state is JobState.STARTING
    assert rig.launcher.start(REQUEST).id == job.id
    rig.server.provision()
    assert found(rig.launcher, job.name).state is JobState.RUNNING


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("STOPPED", JobState.STARTING),
        ("PENDING", JobState.STARTING),
        ("PAUSED", JobState.RUNNING),
        ("DRAINING", JobState.DRAINING),
        ("CANCELLING", JobState.DRAINING),
        ("RESOURCE_CLEANING_UP", JobState.DRAINING),
        ("DRAINED", JobState.STOPPED),
        ("UPDATED", JobState.STOPPED),
    ],
)
def test_the_rarer_states_are_known_too(rig: DataflowRig, theirs: str, ours: JobState) -> None:
    rig.start()
    rig.server.move(rig.server.jobs[-1], theirs)
    assert found(rig.launcher).state is ours


def test_a_job_says_its_last_error_since_when_and_where_to_look(rig: DataflowRig) -> None:
    rig.start()
    rig.server.move(rig.server.jobs[-1], "FAILED", "Worker pool failed to activate.", "Workflow failed.")
    assert found(rig.launcher).detail == (
        "Workflow failed. (JOB_STATE_FAILED since 2026-11-01T00:00:01.500000Z, "
        "https://console.cloud.google.com/dataflow/jobs/europe-west1/job-1?project=a-project)"
    )


def test_a_job_whose_template_failed_says_where_its_own_words_are(rig: DataflowRig) -> None:
    rig.start()
    text = "Error occurred in the launcher container: Template launch failed. See console logs."
    rig.server.move(rig.server.jobs[-1], "FAILED", text)
    log = "gs://a-bucket/dataflow/staging/template_launches/job-1/console_logs"
    assert found(rig.launcher).detail.startswith(f"{text} ({log} says why)")


def test_the_newest_job_is_found_behind_many_and_beside_those_whose_names_begin_with_its_own(
    rig: DataflowRig,
) -> None:
    for _ in range(5):
        rig.end(0)
    own = rig.end(3)
    rig.start(f"{NAME}-2")
    assert found(rig.launcher) == own
    assert rig.start().id == rig.server.jobs[-1].id


def test_dataflow_is_best_left_alone_for_a_while(rig: DataflowRig) -> None:
    assert rig.start().rest_seconds == dataflow.REST_SECONDS


# Starters


def test_a_job_that_another_starter_made_meanwhile_is_adopted(rig: DataflowRig) -> None:
    rig.server.before["launch"] = lambda: rig.another().start(REQUEST)
    assert rig.launcher.start(REQUEST).id == "job-1"
    assert rig.made() == 1


def test_a_job_that_is_draining_is_not_taken_for_one_that_runs(rig: DataflowRig) -> None:
    request = _running(rig)
    rig.server.move(rig.server.jobs[-1], "DRAINING")
    drains = rig.launcher.start(request)
    assert (drains.id, drains.state) == ("job-1", JobState.DRAINING)
    with pytest.raises(LaunchError, match=r"is ending \(JOB_STATE_DRAINING\).*: start it again once it has ended"):
        rig.launcher.update(request)
    assert rig.made() == 1
    rig.server.move(rig.server.jobs[-1], "DRAINED")
    assert rig.launcher.start(request).id == "job-2"


def test_a_job_that_runs_with_other_arguments_is_adopted_and_said_to_be_so(
    rig: DataflowRig, caplog: pytest.LogCaptureFixture
) -> None:
    request = _running(rig)
    rig.launcher.start(request)
    assert caplog.messages == []
    assert rig.launcher.start(request.model_copy(update={"table": "a-project.live.other"})).id == "job-1"
    (said,) = caplog.messages
    assert said.startswith("rejeu-stream-crypto-rates: runs with other arguments")
    assert "`rejeu update`" in said


# Updates in place


def test_a_job_that_is_asked_for_something_else_is_replaced_in_place(rig: DataflowRig) -> None:
    request = _running(rig).model_copy(update={"workers": Workers(max=9)})
    rig.server.on_call = lambda call: rig.server.provision() if call.method == "GET" else None
    job = rig.launcher.update(request, {"insert": "append"})
    assert (job.id, job.state) == ("job-2", JobState.RUNNING)
    assert _told(rig)["update"] is True
    assert _told(rig)["transformNameMappings"] == {"insert": "append"}
    assert rig.server.jobs[0].state == "JOB_STATE_UPDATED"
    assert found(rig.launcher, job.name) == job
    assert rig.launcher.update(request) == job


def test_a_job_that_does_what_is_asked_is_left_alone(rig: DataflowRig) -> None:
    request = _running(rig)
    assert rig.launcher.update(request).id == "job-1"
    assert rig.made() == 1


@pytest.mark.parametrize("change", ["image", "template"])
def test_another_image_or_template_is_something_else_to_do(rig: DataflowRig, change: str) -> None:
    request = _running(rig)
    asked = _told(rig)["environment"]["additionalUserLabels"][REQUEST_LABEL]
    rig.server.on_call = lambda call: rig.server.provision() if call.method == "GET" else None
    rig.another(**{change: "gs://a-bucket/new"}).update(request)
    assert _told(rig)["environment"]["additionalUserLabels"][REQUEST_LABEL] != asked


def test_where_none_lives_an_update_starts_one(rig: DataflowRig) -> None:
    assert rig.launcher.update(REQUEST).state is JobState.STARTING
    assert "update" not in _told(rig)


def test_an_incompatible_update_leaves_the_old_job_and_says_why(rig: DataflowRig) -> None:
    request = _running(rig).model_copy(update={"table": "a-project.live.other"})
    rig.server.incompatible = "the new job lacks the step insert"
    rig.server.on_call = lambda call: rig.server.provision() if call.method == "GET" else None
    with pytest.raises(LaunchError, match=r"lacks the step insert.* The old job job-1 runs on; .*--renamed"):
        rig.launcher.update(request)
    running = found(rig.launcher, request.job_name)
    assert (running.id, running.state) == ("job-1", JobState.RUNNING)


def test_an_update_that_never_decides_is_an_error(rig: DataflowRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataflow, "UPDATE_SECONDS", 0.1)
    request = _running(rig)
    with pytest.raises(LaunchError, match=r"was not updated in place: .*JOB_STATE_QUEUED"):
        rig.launcher.update(request.model_copy(update={"table": "a-project.live.other"}))


# Stopping


def test_a_job_is_drained_unless_it_is_to_be_quick(rig: DataflowRig) -> None:
    rig.start()
    rig.launcher.stop(NAME)
    rig.start()
    rig.launcher.stop(NAME, drain=False)
    assert [job.state for job in rig.server.jobs] == ["JOB_STATE_DRAINED", "JOB_STATE_CANCELLED"]


def test_a_job_that_waits_for_workers_is_cancelled_for_it_has_nothing_to_drain(rig: DataflowRig) -> None:
    rig.launcher.start(SmallJob(()))
    rig.launcher.stop(NAME)
    assert rig.server.jobs[-1].state == "JOB_STATE_CANCELLED"


def test_a_job_that_drains_too_long_is_an_error_that_names_it(
    rig: DataflowRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataflow, "STOP_SECONDS", 0.1)
    rig.start()
    rig.server.slow = True
    for _ in range(2):
        with pytest.raises(LaunchError, match=rf"^{NAME} still runs .*JOB_STATE_DRAINING.*jobs/europe-west1/job-1"):
            rig.launcher.stop(NAME)
    rig.server.slow = False
    rig.launcher.stop(NAME, drain=False)
    assert rig.server.jobs[-1].state == "JOB_STATE_CANCELLED"


def test_a_job_that_ends_while_it_is_stopped_has_ended(rig: DataflowRig) -> None:
    rig.start()
    rig.server.before["update"] = lambda: rig.server.move(rig.server.jobs[-1], "FAILED", "out of memory")
    stopped = rig.launcher.stop(NAME)
    assert stopped is not None
    assert stopped.state is JobState.FAILED


# Refusals


def test_what_is_not_permitted_is_an_error_that_names_the_roles(rig: DataflowRig) -> None:
    rig.start()
    rig.server.denied = True
    for use in (
        lambda: rig.launcher.start(SmallJob(())),
        lambda: rig.launcher.update(SmallJob(())),
        lambda: rig.launcher.find(NAME),
        lambda: rig.launcher.stop(NAME),
    ):
        with pytest.raises(LaunchError, match=r"403 .* denied .*; grant whoever asks roles/dataflow\.developer"):
            use()


def test_what_is_wrong_is_an_error_that_says_what_to_correct(rig: DataflowRig) -> None:
    with pytest.raises(LaunchError, match=r"400 .*template file 'nowhere'; correct what the target says"):
        rig.another(template="nowhere").start(SmallJob(()))


def test_a_service_that_is_away_for_a_moment_is_asked_again(rig: DataflowRig) -> None:
    def away() -> None:
        raise refusal(503, "UNAVAILABLE", "try again")

    job = rig.start()
    rig.server.before["list"] = away
    assert rig.another(patience=5).find(NAME) == job


def test_without_credentials_it_says_how_to_get_some(
    rig: DataflowRig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DATAFLOW_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(LaunchError, match=r"Dataflow cannot be asked: .*none\.json was not found.*gcloud auth"):
        rig.launcher.find(NAME)


# The command


def test_the_command_has_the_running_job_do_what_the_spec_says_now(
    rig: DataflowRig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = {"PROJECT": "a-project", "REGION": "europe-west1", "BUCKET": "a-bucket", "JOBS": "dataflow"}
    target |= {"TEMPLATE": "gs://a-bucket/stream.json", "JOBS_IMAGE": "rejeu-beam:test", "HOME": str(tmp_path)}
    for name, value in target.items():
        monkeypatch.setenv(f"REJEU_{name}", value)
    spec = tmp_path / "crypto_rates.yaml"
    live = "{topic: rates, table: live.rates, workers: {max: 9}}"
    spec.write_text(f"stream: crypto_rates\nevent_time: at\nlive: {live}\nwatchdog: {{probe: tap}}\n", encoding="utf-8")
    _running(rig)
    rig.server.on_call = lambda call: rig.server.provision() if call.method == "GET" else None
    assert main(["update", str(spec), "--renamed", "insert=append"]) == 0
    assert "rejeu-stream-crypto-rates is running (JOB_STATE_RUNNING" in capsys.readouterr().out
    assert _told(rig)["environment"]["maxWorkers"] == 9
    assert _told(rig)["transformNameMappings"] == {"insert": "append"}
