"""docker-compose.yaml against its schema, and against the project: every command, path, port and variable exists.

tests/data/compose-spec.json is the schema of the Compose Specification (Apache-2.0), as npm's dclint 3.1.0 ships it.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import rejeu
from rejeu.local.processes.ports import free_port
from rejeu.local.stack.settings import AIRFLOW_SETTINGS, BUCKET, CLIENT, PROJECT, SERVERS, USER, StackSettings
from rejeu.target import PREFIX, Target
from tests.paths import ROOT

TEXT = (ROOT / "docker-compose.yaml").read_text()
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?P<kind>:[?-])(?P<rest>[^}]*)\}")
EXAMPLE = dict(
    line.split("=", 1) for line in (ROOT / "docker/env.example").read_text().splitlines() if line[:1].isupper()
)
HOST_PORT = re.compile(r"^(?:http://)?([a-z-]+):(\d+)(?:/.*)?$")
EMULATORS = ("pubsub", "bigquery", "storage", "metadata")
AIRFLOW = ("init", "api-server", "dag-processor", "triggerer", "scheduler")
START_SECONDS = 60.0


def fill(text: str) -> str:
    """What Compose makes of a text, with a .env whose secrets are their own names."""
    return VARIABLE.sub(
        lambda found: found["rest"] if found["kind"] == ":-" else EXAMPLE[found["name"]] or found["name"], text
    )


COMPOSE: dict[str, Any] = yaml.safe_load(fill(TEXT))
SERVICES: dict[str, Any] = COMPOSE["services"]
LASTING = [name for name, each in SERVICES.items() if each.get("restart") == "unless-stopped"]


def environment(service: str) -> dict[str, str]:
    """The variables of a service: its file's, then its own; what has no value comes from outside."""
    each = SERVICES[service]
    lines = (ROOT / each["env_file"]).read_text().splitlines() if "env_file" in each else []
    of_file = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    return of_file | {name: value for name, value in each.get("environment", {}).items() if value is not None}


def mounts(service: str) -> dict[str, str]:
    """Where in the container each volume or folder is seen."""
    pairs = (mount.split(":")[:2] for mount in SERVICES[service].get("volumes", []))
    return {inside: outside for outside, inside in pairs}


def listens(service: str) -> set[int]:
    """The ports that a service's command names."""
    if service == "postgres":
        return {5432}
    words = SERVICES[service]["command"]
    return {int(words[at + 1]) for at, word in enumerate(words) if word.endswith("-port") or word == "--port"}


def schema() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads((ROOT / "tests/data/compose-spec.json").read_text()))


def test_the_file_fits_the_schema_of_compose() -> None:
    schema().validate(COMPOSE)


def test_the_schema_refuses_what_compose_has_not() -> None:
    wrong = copy.deepcopy(COMPOSE)
    wrong["services"]["scheduler"]["helthcheck"] = {}
    assert not schema().is_valid(wrong)


def test_every_variable_is_documented_and_a_required_one_says_what_to_do() -> None:
    assert TEXT.count("${") == len(VARIABLE.findall(TEXT))
    for found in VARIABLE.finditer(TEXT):
        if found["kind"] == ":?":
            assert EXAMPLE[found["name"]] == "", "a secret has no default"
            assert found["rest"] == "run docker/make-env"
        else:
            assert EXAMPLE[found["name"]] == found["rest"]
    assert set(EXAMPLE) == {found["name"] for found in VARIABLE.finditer(TEXT)}
    from_outside = {
        name for each in SERVICES.values() for name, value in each.get("environment", {}).items() if value is None
    }
    assert all(f"# {name}=" in (ROOT / "docker/env.example").read_text() for name in from_outside)


def make_env(folder: Path) -> subprocess.CompletedProcess[str]:
    shutil.copytree(ROOT / "docker", folder / "docker", dirs_exist_ok=True)
    return subprocess.run(["sh", "docker/make-env"], cwd=folder, capture_output=True, text=True, check=False)


def test_make_env_gives_every_secret_a_value_of_its_own_and_shows_it_to_nobody(tmp_path: Path) -> None:
    assert make_env(tmp_path).returncode == 0
    file = tmp_path / ".env"
    made = dict(line.split("=", 1) for line in file.read_text().splitlines() if line[:1].isupper())
    secrets = [made[name] for name, value in EXAMPLE.items() if not value]
    assert set(made) == set(EXAMPLE)
    assert len(set(secrets)) == len(secrets)
    assert all(len(base64.urlsafe_b64decode(secret)) == 32 for secret in secrets)
    assert file.stat().st_mode & 0o077 == 0


def test_make_env_never_touches_an_env_that_exists(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=precious\n")
    refused = make_env(tmp_path)
    assert refused.returncode == 1
    assert ".env exists" in refused.stderr
    assert (tmp_path / ".env").read_text() == "POSTGRES_PASSWORD=precious\n"


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_ours_of_this_version_or_pinned(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    if "build" in SERVICES[name]:
        build = SERVICES[name]["build"]
        assert tag == rejeu.__version__
        assert build["dockerfile"] == f"docker/{image.removeprefix('rejeu-')}.Dockerfile"
        assert (ROOT / build["context"] / build["dockerfile"]).is_file()
    else:
        assert re.match(r"\d+\.\d+", tag)


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_has_more_rights_than_it_needs(name: str) -> None:
    assert not {"privileged", "cap_add", "network_mode"} & set(SERVICES[name])
    assert SERVICES[name].get("user", "rejeu") in ("rejeu", "postgres")
    assert (SERVICES[name]["cap_drop"], SERVICES[name]["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_every_mount_exists_and_sources_are_read_only(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        outside = mount.split(":")[0]
        if outside.startswith("."):
            assert (ROOT / outside).is_dir()
            assert mount.endswith(":ro")
        else:
            assert outside in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_writes_to_its_volumes_and_to_tmp_and_nowhere_else(name: str) -> None:
    assert SERVICES[name]["read_only"] is True
    assert ("/tmp" in SERVICES[name]["tmpfs"]) is not ("/tmp" in mounts(name)), "one of both"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_share_of_the_machine(name: str) -> None:
    resources = SERVICES[name]["deploy"]["resources"]
    assert {"memory", "pids"} == set(resources["limits"]), "Docker refuses more cpus than there are"
    assert set(resources["reservations"]) == {"memory"}


def test_the_database_never_is_root() -> None:
    assert SERVICES["postgres"]["user"] == "postgres", "else it begins as root, and changes the owner of its files"
    assert "/var/run/postgresql" in SERVICES["postgres"]["tmpfs"], "where its socket is"


def test_every_volume_is_used() -> None:
    assert set(COMPOSE["volumes"]) <= {outside for name in SERVICES for outside in mounts(name).values()}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_only_for_what_can_come_true(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        if how["condition"] == "service_completed_successfully":
            assert SERVICES[other]["restart"] == "no"


def test_what_lasts_is_restarted_and_checked() -> None:
    assert set(SERVICES) - set(LASTING) == {"init", "replay"}
    # It only sleeps: it has no health but its life.
    assert [name for name in LASTING if "healthcheck" not in SERVICES[name]] == ["processes"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_address_names_a_service_and_the_port_it_listens_on(name: str) -> None:
    values = {**environment(name), "check": " ".join(SERVICES[name].get("healthcheck", {}).get("test", []))}
    addresses = [HOST_PORT.match(word) for value in values.values() for word in value.split()]
    for found in filter(None, addresses):
        host, port = found[1], int(found[2])
        if host == "localhost":
            outside_port = int(EXAMPLE["REJEU_UI_PORT"])
            assert port in listens(name) | {outside_port}
        else:
            assert port in listens(host)
            assert host in values["NO_PROXY"].split(",")


def test_airflow_finds_its_database() -> None:
    database = SERVICES["postgres"]["environment"]
    user, name, password = (database[f"POSTGRES_{part}"] for part in ("USER", "DB", "PASSWORD"))
    url = environment("scheduler")["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert url == f"postgresql+psycopg2://{user}:{password}@postgres:5432/{name}"


def test_no_proxy_is_asked_for_a_service() -> None:
    assert environment("scheduler")["NO_PROXY"] == environment("scheduler")["no_proxy"]
    assert {*EMULATORS, "api-server", "postgres"} <= set(environment("scheduler")["NO_PROXY"].split(","))


def test_the_pages_are_served_where_they_say_they_are() -> None:
    (port,) = SERVICES["api-server"]["ports"]
    assert port == f"127.0.0.1:{EXAMPLE['REJEU_UI_PORT']}:8080"
    assert environment("api-server")["AIRFLOW__API__BASE_URL"] == f"http://localhost:{EXAMPLE['REJEU_UI_PORT']}"
    assert environment("scheduler")["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://api-server:8080/execution/"


@pytest.mark.parametrize("name", AIRFLOW)
def test_an_airflow_service_has_the_environment_of_the_local_stack(name: str) -> None:
    keys = dict.fromkeys(("fernet", "session", "jwt", "database"), "")
    settings = StackSettings("s", "/h", "/d", dict.fromkeys(SERVERS, 1), "h:1", True, "/b", "/c", keys)
    # These are the supervisor's, the emulator's and the demo's own.
    elsewhere = {
        CLIENT,
        "CLOUDSDK_CONFIG",
        "BQEMU_GCS_LOCAL_ROOT",
        "REJEU_DAGS",
    }
    ours = environment(name)
    assert set(settings.variables()) - elsewhere <= set(ours)
    assert {key: ours[f"AIRFLOW__{key}"] for key in AIRFLOW_SETTINGS} == AIRFLOW_SETTINGS
    assert ours["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == f"{USER}:admin"
    assert ours["GOOGLE_CLOUD_PROJECT"] == ours["PUBSUB_PROJECT_ID"] == ours["REJEU_PROJECT"] == PROJECT
    assert json.loads(ours["AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"])["extra"] == {"project": PROJECT}


@pytest.mark.parametrize("name", AIRFLOW)
def test_an_airflow_service_knows_its_target(name: str) -> None:
    ours = {key: value for key, value in environment(name).items() if key.startswith(PREFIX)}
    assert {key.removeprefix(PREFIX).lower() for key in ours} <= {*Target.model_fields, "extensions"}
    target = Target.from_env(ours)
    assert (target.project, target.bucket, target.launcher) == (PROJECT, BUCKET, "process")


@pytest.mark.parametrize("name", AIRFLOW)
def test_airflow_services_share_state_jobs_and_logs(name: str) -> None:
    ours = environment(name)
    (home,) = [inside for inside, outside in mounts(name).items() if outside == "home"]
    assert ours["REJEU_HOME"] == home
    for path in (ours["REJEU_STATE"].removeprefix("sqlite:"), ours["AIRFLOW_HOME"]):
        assert Path(path).is_relative_to(home)
    assert mounts(name)[ours["AIRFLOW__CORE__DAGS_FOLDER"]] == "./dags"
    assert mounts(name)[ours["AIRFLOW__CORE__PLUGINS_FOLDER"]] == "./plugins"


def test_the_triggerer_sees_the_processes_that_the_scheduler_starts() -> None:
    assert environment("scheduler")["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert SERVICES["scheduler"]["pid"] == SERVICES["triggerer"]["pid"] == "service:processes"
    assert SERVICES["scheduler"]["image"] == SERVICES["triggerer"]["image"], "the same user may signal them"


def test_neither_takes_the_other_along_and_orphans_are_buried() -> None:
    assert SERVICES["processes"]["command"] == ["sleep", "infinity"]
    assert SERVICES["processes"]["init"] is True
    assert "depends_on" not in SERVICES["processes"]


def test_bigquery_reads_the_objects_where_the_storage_emulator_keeps_them() -> None:
    command = SERVICES["storage"]["command"]
    folder = command[command.index("-d") + 1]
    assert environment("bigquery")["BQEMU_GCS_LOCAL_ROOT"] == f"{folder}/.cloudstorage"
    assert mounts("bigquery")[folder] == mounts("storage")[folder] == "storage"
    assert command[command.index("--default-bucket") + 1] == BUCKET


def test_airflow_accepts_its_commands(tmp_path: Path) -> None:
    commands = [SERVICES[name]["command"] for name in AIRFLOW if SERVICES[name]["command"][0] == "airflow"]
    code = "import json, sys; from airflow.cli.cli_parser import get_parser\n"
    code += "for words in json.loads(sys.argv[1]): get_parser().parse_args(words[1:])"
    surroundings = os.environ | {"AIRFLOW_HOME": str(tmp_path)}
    run = [sys.executable, "-c", code, json.dumps([*commands, ["airflow", "db", "migrate"]])]
    parsed = subprocess.run(run, env=surroundings, capture_output=True, text=True, check=False)
    assert len(commands) == 4
    assert parsed.returncode == 0, parsed.stderr


@pytest.mark.emulated
@pytest.mark.parametrize("name", EMULATORS)
def test_an_emulator_starts_by_its_command_and_its_check_tells(name: str, tmp_path: Path) -> None:
    ports = {str(port): str(free_port()) for port in listens(name)}
    # Under another root, and on ports that nobody has.
    words = [ports.get(word, word.replace("/var/lib", str(tmp_path))) for word in SERVICES[name]["command"]]
    check = SERVICES[name]["healthcheck"]["test"]
    host, _, port = check[3].partition(":")
    checked = [sys.executable, str(ROOT / "docker" / check[1]), check[2], f"{host}:{ports[port]}", *check[4:]]
    surroundings = os.environ | {
        key: value.replace("/var/lib", str(tmp_path)) for key, value in environment(name).items()
    }
    for folder in ("bigquery", "storage"):
        (tmp_path / folder).mkdir()
    assert subprocess.run(checked, check=False).returncode == 1, "nothing runs yet"
    with running([sys.executable, *words[1:]], surroundings) as server:
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(checked, check=False).returncode:
            assert server.poll() is None, f"it ended with {server.returncode}"
            assert time.monotonic() < deadline


@contextmanager
def running(command: list[str], surroundings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    server = subprocess.Popen(command, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield server
    finally:
        server.kill()
        server.wait()
