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
        "REJEU_CPU": "2",
        "REJEU_MEMORY": "4Gi",
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
        (
            {"REJEU_IMAGE": "replay@sha256:12ab"},
            "REJEU_IMAGE: it is 'replay@sha256:12ab': it must be an image, such as",
        ),
        ({"REJEU_IMAGE": "replay 1"}, "REJEU_IMAGE: it is 'replay 1': it must be an image, such as"),
        ({"REJEU_JOBS_IMAGE": "https://beam@sha256"}, "REJEU_JOBS_IMAGE: it is 'https://beam@sha256': it must be an"),
        ({"REJEU_CPU": "0"}, "REJEU_CPU: it is '0': it must be a number of processors, such as 1 or 0.5"),
        ({"REJEU_MEMORY": "2G"}, "REJEU_MEMORY: it is '2G': it must be Mi or Gi, such as 2Gi"),
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


ELSEWHERE = LEAST | {
    "REJEU_IMAGE": "i",
    "REJEU_JOBS_IMAGE": "j",
    "REJEU_BUCKET": "b",
    "REJEU_REGION": "europe-west1",
    "REJEU_STATE": "gs://rejeu-state/streams",
}


@pytest.mark.parametrize("launcher", ["cloud-run", "kubernetes", "vertex-ai"])
@pytest.mark.parametrize("missing", ["REJEU_BUCKET", "REJEU_JOBS_IMAGE"])
def test_where_jobs_run_beside_replays_their_image_and_a_bucket_for_their_files_are_asked_for(
    launcher: str, missing: str
) -> None:
    given = {name: text for name, text in ELSEWHERE.items() if name != missing}
    with pytest.raises(RequestError, match=f"REJEU_LAUNCHER: it is '{launcher}': set {missing} too"):
        Target.from_env(given | {"REJEU_LAUNCHER": launcher})


@pytest.mark.parametrize("launcher", ["cloud-run", "docker", "kubernetes", "vertex-ai"])
@pytest.mark.parametrize("state", [{}, {"REJEU_STATE": "sqlite:/srv/state.db"}])
def test_replays_of_other_machines_cannot_have_the_state_file_of_this_one(launcher: str, state: dict[str, str]) -> None:
    given = {name: text for name, text in ELSEWHERE.items() if name != "REJEU_STATE"} | {"REJEU_LAUNCHER": launcher}
    with pytest.raises(RequestError, match="a file of this machine; set REJEU_STATE to gs://BUCKET/PREFIX"):
        Target.from_env(given | state)
    assert Target.from_env(given | {"REJEU_STATE": "gs://rejeu-state/streams"}).launcher == launcher


ON_DATAFLOW = LEAST | {
    f"REJEU_{name}": value
    for name, value in {
        "JOBS": "dataflow",
        "REGION": "europe-west1",
        "BUCKET": "b",
        "TEMPLATE": "gs://b/t",
        "JOBS_IMAGE": "i",
    }.items()
}


@pytest.mark.parametrize("image", ["rejeu-replay:0.1.0", "europe-docker.pkg.dev/p-1/rejeu/replay", "here:5000/r:1"])
@pytest.mark.parametrize("digest", ["", f"@sha256:{'0a' * 32}"])
def test_an_image_may_be_named_by_its_digest(image: str, digest: str) -> None:
    given = {"REJEU_IMAGE": image + digest, "REJEU_JOBS_IMAGE": image + digest}
    target = Target.from_env(LEAST | given)
    assert (target.image, target.jobs_image) == (image + digest, image + digest)


def test_streaming_jobs_on_dataflow_need_no_state() -> None:
    assert Target.from_env(ON_DATAFLOW).jobs == "dataflow"


@pytest.mark.parametrize("emulator", ["PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "BIGTABLE_EMULATOR_HOST"])
@pytest.mark.parametrize("launcher", ["cloud-run", "kubernetes", "vertex-ai", "dataflow"])
def test_jobs_of_other_machines_cannot_ask_the_emulators_of_this_one(launcher: str, emulator: str) -> None:
    given = ON_DATAFLOW if launcher == "dataflow" else ELSEWHERE | {"REJEU_LAUNCHER": launcher}
    variable = "REJEU_JOBS" if launcher == "dataflow" else "REJEU_LAUNCHER"
    with pytest.raises(RequestError) as caught:
        Target.from_env(given | {emulator: "127.0.0.1:8085"})
    assert str(caught.value) == (
        f"{variable} is '{launcher}': its jobs run elsewhere and ask Google, and {emulator} names a server that only "
        f"this machine asks; unset {emulator}, or {variable}"
    )
    assert Target.from_env(given | {emulator: ""}).project == "rejeu-test"


@pytest.mark.parametrize(
    ("launcher", "server"), [("cloud-run", "CLOUD_RUN_EMULATOR_HOST"), ("vertex-ai", "VERTEX_AI_EMULATOR_HOST")]
)
def test_where_the_launchers_service_is_of_this_machine_too_emulators_may_be(launcher: str, server: str) -> None:
    given = ELSEWHERE | {"REJEU_LAUNCHER": launcher, "PUBSUB_EMULATOR_HOST": "127.0.0.1:8085", server: "127.0.0.1:1"}
    assert Target.from_env(given).launcher == launcher


def test_containers_of_this_machine_are_told_of_its_emulators() -> None:
    given = ELSEWHERE | {"REJEU_LAUNCHER": "docker", "PUBSUB_EMULATOR_HOST": "127.0.0.1:8085"}
    assert Target.from_env(given).launcher == "docker"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"BIGQUERY_EMULATOR_HOST": "http://b"},
            "BIGQUERY_EMULATOR_HOST is set and BIGQUERY_STORAGE_EMULATOR_HOST is not: tables would be made in one "
            "BigQuery and read from another; set both, or none",
        ),
        (
            {"BIGQUERY_STORAGE_EMULATOR_HOST": "b"},
            "BIGQUERY_STORAGE_EMULATOR_HOST is set and BIGQUERY_EMULATOR_HOST is not: tables would be made in one "
            "BigQuery and read from another; set both, or none",
        ),
        (
            {"REJEU_PRODUCTION": "true", "PUBSUB_EMULATOR_HOST": "p"},
            "REJEU_PRODUCTION marks this target as one that people rely on, and PUBSUB_EMULATOR_HOST an emulator's, "
            "which keeps nothing: unset one of them",
        ),
    ],
)
def test_half_of_an_emulator_and_an_emulator_in_production_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        Target.from_env(LEAST | changes)
    assert str(caught.value) == message


def test_a_path_in_a_bucket_that_is_not_named_is_refused() -> None:
    with pytest.raises(RequestError, match=r"REJEU_BUCKET is empty, and 'gs://\{bucket\}/a' lies in it: set it to the"):
        Target.from_env(LEAST).expand("gs://{bucket}/a")


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
    assert target.expand("gs://{bucket}/dt={partition}/*", partition="2021-04-30") == "gs://raw/dt=2021-04-30/*"


def test_local_jobs_are_kept_in_the_targets_home(tmp_path: Path) -> None:
    target = Target.from_env(LEAST | {"REJEU_HOME": str(tmp_path)})
    for launcher in (job_launcher(target), replay_launcher(target)):
        assert isinstance(launcher, ProcessLauncher)
        assert launcher._folder == tmp_path / "jobs"


@pytest.mark.parametrize(
    ("name", "launcher"),
    [
        ("docker", DockerLauncher),
        ("kubernetes", KubernetesLauncher),
        ("cloud-run", CloudRunLauncher),
        ("vertex-ai", VertexLauncher),
    ],
)
def test_a_replay_is_started_where_the_target_says(name: str, launcher: type) -> None:
    assert isinstance(replay_launcher(Target.from_env(ELSEWHERE | {"REJEU_LAUNCHER": name})), launcher)
