"""The target: what the environment says, and the full names it gives to things."""

from pathlib import Path

import pytest

from rejeu.errors import RequestError
from rejeu.launchers.choose import job_launcher, replay_launcher
from rejeu.launchers.cloud_run import CloudRunLauncher
from rejeu.launchers.docker import DockerLauncher
from rejeu.launchers.kubernetes import KubernetesLauncher
from rejeu.launchers.process import ProcessLauncher
from rejeu.launchers.vertex_ai import VertexLauncher
from rejeu.target import Target

LEAST = {"REJEU_PROJECT": "rejeu-test"}


def test_a_project_is_all_that_a_target_needs() -> None:
    target = Target.from_env(LEAST)
    assert (target.project, target.state, target.location) == ("rejeu-test", "sqlite:.rejeu/state.db", "US")
    assert target.speed is None


def test_every_field_is_an_environment_variable() -> None:
    given = {
        "REJEU_PROJECT": "rejeu-test",
        "REJEU_BUCKET": "raw",
        "REJEU_STATE": "sqlite:/srv/state.db",
        "REJEU_DATASET": "own",
        "REJEU_LOCATION": "EU",
        "REJEU_IMAGE": "europe-docker.pkg.dev/rejeu-test/rejeu/replay",
        "REJEU_REGION": "europe-west1",
        "REJEU_SERVICE_ACCOUNT": "replay@rejeu-test.iam.gserviceaccount.com",
        "REJEU_NAMESPACE": "streams",
        "REJEU_NETWORK": "rejeu",
        "REJEU_LAUNCHER": "process",
        "REJEU_TEMPLATE": "gs://raw/stream.json",
        "REJEU_JOBS_IMAGE": "europe-docker.pkg.dev/rejeu-test/rejeu/beam",
        "REJEU_JOBS_SERVICE_ACCOUNT": "job@rejeu-test.iam.gserviceaccount.com",
        "REJEU_JOBS": "dataflow",
        "REJEU_PRODUCTION": "True",
        "REJEU_BIGTABLE": "serving",
        "REJEU_OPEN_DATA": "http://127.0.0.1:8080",
        "REJEU_SPEED": "60",
        "REJEU_NOTIFIER": "my_company.notifiers.on_call",
        "REJEU_ALERTS": "rejeu-alerts",
        "REJEU_STREAMS_WAIT": "True",
        "REJEU_HOME": "/srv/rejeu",
    }
    assert {f"REJEU_{name.upper()}" for name in Target.model_fields} == set(given)
    target = Target.from_env(given)
    assert {name: str(value) for name, value in target} == {
        name.removeprefix("REJEU_").lower(): "60.0" if name == "REJEU_SPEED" else value for name, value in given.items()
    }


def test_the_process_environment_is_read_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REJEU_PROJECT", "rejeu-here")
    assert Target.from_env().project == "rejeu-here"


def test_googles_own_variable_names_the_project_where_ours_does_not() -> None:
    assert Target.from_env({"GOOGLE_CLOUD_PROJECT": "google-says"}).project == "google-says"
    assert Target.from_env({"GOOGLE_CLOUD_PROJECT": "google-says"} | LEAST).project == "rejeu-test"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"REJEU_PROJECT": ""}, "REJEU_PROJECT: it is '': String should have at least 6 characters"),
        (
            {"REJEU_LAUNCHER": "moon"},
            "REJEU_LAUNCHER: it is 'moon': it must be one of cloud-run, docker, kubernetes, process, vertex-ai. Set",
        ),
        ({"REJEU_LAUNCHER": "docker"}, "REJEU_LAUNCHER: it is 'docker': set REJEU_IMAGE too"),
        (
            {"REJEU_LAUNCHER": "cloud-run", "REJEU_IMAGE": "i"},
            "REJEU_LAUNCHER: it is 'cloud-run': set REJEU_REGION too",
        ),
        (
            {"REJEU_LAUNCHER": "cloud-run", "REJEU_IMAGE": "i", "REJEU_REGION": "europe"},
            "REJEU_REGION: it is 'europe': it must be a region, such as europe-west1",
        ),
        (
            {"REJEU_LAUNCHER": "dataflow"},
            "REJEU_LAUNCHER: it is 'dataflow': it must be one of cloud-run, docker, kubernetes, process, vertex-ai.",
        ),
        (
            {"REJEU_JOBS": "docker", "REJEU_IMAGE": "i"},
            "REJEU_JOBS: it is 'docker': it must be one of dataflow, process.",
        ),
        ({"REJEU_SPEED": "1e308"}, "REJEU_SPEED: it is 1e308: it must be a number from 0.001 to 1,000,000"),
        (
            {"REJEU_SPEED": "0"},
            'REJEU_SPEED: it is 0: it must be a number from 0.001 to 1,000,000, or "max" for no waiting',
        ),
    ],
)
def test_a_wrong_variable_is_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        Target.from_env(LEAST | changes)
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("Set it in Airflow's environment")


@pytest.mark.parametrize("launcher", ["cloud-run", "kubernetes", "vertex-ai"])
@pytest.mark.parametrize("state", [{}, {"REJEU_STATE": "sqlite:/srv/state.db"}])
def test_replays_of_other_machines_cannot_have_the_state_file_of_this_one(launcher: str, state: dict[str, str]) -> None:
    given = LEAST | {"REJEU_LAUNCHER": launcher, "REJEU_IMAGE": "i", "REJEU_REGION": "europe-west1"}
    with pytest.raises(RequestError, match="a file of this machine; set REJEU_STATE to gs://BUCKET/PREFIX"):
        Target.from_env(given | state)
    assert Target.from_env(given | {"REJEU_STATE": "gs://rejeu-state/streams"}).launcher == launcher


def test_streaming_jobs_on_dataflow_need_no_state() -> None:
    given = {"JOBS": "dataflow", "REGION": "europe-west1", "BUCKET": "b", "TEMPLATE": "gs://b/t", "JOBS_IMAGE": "i"}
    assert Target.from_env(LEAST | {f"REJEU_{name}": value for name, value in given.items()}).jobs == "dataflow"


def test_a_missing_project_is_asked_for() -> None:
    with pytest.raises(RequestError, match="REJEU_PROJECT"):
        Target.from_env({})


def test_names_are_completed_with_the_project() -> None:
    target = Target.from_env(LEAST)
    assert target.table("web.clicks") == "rejeu-test.web.clicks"
    assert target.table("other-project.web.clicks") == "other-project.web.clicks"
    assert target.topic("clicks") == "projects/rejeu-test/topics/clicks"
    assert target.subscription("clicks-job") == "projects/rejeu-test/subscriptions/clicks-job"
    assert target.incidents == "rejeu-test.rejeu.incidents"


def test_a_path_gets_the_bucket_and_the_partition() -> None:
    target = Target.from_env(LEAST | {"REJEU_BUCKET": "raw"})
    assert target.place("gs://{bucket}/dt={partition}/*", partition="2021-04-30") == "gs://raw/dt=2021-04-30/*"


def test_local_jobs_are_kept_in_the_targets_home(tmp_path: Path) -> None:
    target = Target.from_env(LEAST | {"REJEU_HOME": str(tmp_path)})
    assert isinstance(job_launcher(target), ProcessLauncher)
    assert isinstance(replay_launcher(target), ProcessLauncher)
    assert (tmp_path / "jobs").is_dir()


@pytest.mark.parametrize(
    ("name", "launcher"),
    [
        ("docker", DockerLauncher),
        ("kubernetes", KubernetesLauncher),
        ("cloud-run", CloudRunLauncher),
        ("vertex-ai", VertexLauncher),
    ],
)
def test_a_replay_is_started_where_the_target_says_and_beams_jobs_here(
    name: str, launcher: type, tmp_path: Path
) -> None:
    given = {"LAUNCHER": name, "IMAGE": "replay:1", "REGION": "europe-west1", "HOME": str(tmp_path)}
    given["STATE"] = "gs://rejeu-state/streams"
    target = Target.from_env(LEAST | {f"REJEU_{key}": value for key, value in given.items()})
    assert isinstance(replay_launcher(target), launcher)
    assert isinstance(job_launcher(target), ProcessLauncher)
