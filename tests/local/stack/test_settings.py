"""Where a stack lives: ports, secrets and the environment that its processes and clients get."""

import json
import os
import socket
from pathlib import Path

import pytest

from rejeu.errors import StackError
from rejeu.local.stack.settings import StackSettings, stack_id

DAGS = Path("/somewhere/dags")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PUBSUB_EMULATOR_HOST", "REJEU_STACK", "REJEU_UI_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_a_home_keeps_its_ports_and_its_secrets(tmp_path: Path) -> None:
    assert StackSettings.choose(DAGS, tmp_path) == StackSettings.choose(DAGS, tmp_path)


def test_two_homes_share_nothing(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()

    first, second = StackSettings.choose(DAGS, one), StackSettings.choose(DAGS, other)

    assert first.stack != second.stack
    assert not set(first.ports.values()) & set(second.ports.values())
    assert not set(first.keys.values()) & set(second.keys.values())


def test_a_port_that_somebody_listens_on_is_passed_over(tmp_path: Path) -> None:
    wanted = StackSettings.choose(DAGS, tmp_path).ports["ui"]
    with socket.create_server(("127.0.0.1", wanted)):
        assert wanted not in StackSettings.choose(DAGS, tmp_path).ports.values()


def test_the_ui_port_is_the_one_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = StackSettings.choose(DAGS, tmp_path).ports["metadata"] + 1000
    monkeypatch.setenv("REJEU_UI_PORT", str(free))

    assert StackSettings.choose(DAGS, tmp_path).ui_url == f"http://127.0.0.1:{free}"


def test_a_ui_port_in_use_is_refused_with_value_rule_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("REJEU_UI_PORT", str(port))

        with pytest.raises(StackError, match=rf"REJEU_UI_PORT is {port}: it must be free.*set another port"):
            StackSettings.choose(DAGS, tmp_path)


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
def test_a_ui_port_that_is_none_is_refused(port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REJEU_UI_PORT", port)

    with pytest.raises(StackError, match=f"REJEU_UI_PORT is '{port}': it must be a port"):
        StackSettings.choose(DAGS, tmp_path)


def test_somebody_elses_pubsub_emulator_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "pubsub.test:8085")

    settings = StackSettings.choose(DAGS, tmp_path)

    assert not settings.own_pubsub
    assert settings.environment()["PUBSUB_EMULATOR_HOST"] == "pubsub.test:8085"


def test_the_environment_of_a_stack_does_not_pass_for_somebody_elses_pubsub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in StackSettings.choose(DAGS, tmp_path).variables().items():
        monkeypatch.setenv(name, value)

    assert StackSettings.choose(DAGS, tmp_path).own_pubsub


def test_only_what_ends_with_the_stack_has_its_mark(tmp_path: Path) -> None:
    settings = StackSettings.choose(DAGS, tmp_path)

    assert settings.environment_of_parts()["REJEU_STACK"] == settings.stack
    assert "REJEU_STACK" not in settings.environment().keys() | settings.variables().keys()


def test_the_users_own_credentials_and_airflow_settings_stay_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/key.json")
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://production")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "https://production")
    monkeypatch.setenv("AIRFLOW__LOGGING__REMOTE_LOGGING", "True")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "production")

    environment = StackSettings.choose(DAGS, tmp_path).environment()

    assert "GOOGLE_APPLICATION_CREDENTIALS" not in environment
    assert "AIRFLOW__LOGGING__REMOTE_LOGGING" not in environment
    assert not [name for name, value in environment.items() if "production" in value and name.startswith("AIRFLOW")]
    assert environment["GOOGLE_CLOUD_PROJECT"] == "rejeu-local"
    assert environment["CLOUDSDK_CONFIG"].startswith(str(tmp_path))


def test_plugins_stand_beside_the_dags(tmp_path: Path) -> None:
    variables = StackSettings.choose(tmp_path / "dags", tmp_path).variables()
    assert variables["AIRFLOW__CORE__PLUGINS_FOLDER"] == str(tmp_path / "plugins")


def test_parts_keep_what_they_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's imports cost 17 s of CPU each time where they are not kept."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in StackSettings.choose(DAGS, tmp_path).environment_of_parts()


def test_emulators_are_named_as_each_client_wants_them(tmp_path: Path) -> None:
    settings = StackSettings.choose(DAGS, tmp_path)

    environment = settings.environment()

    assert environment["BIGQUERY_EMULATOR_HOST"] == f"http://127.0.0.1:{settings.ports['bigquery']}"
    assert environment["BIGQUERY_STORAGE_EMULATOR_HOST"] == f"127.0.0.1:{settings.ports['bigquery_grpc']}"
    assert environment["STORAGE_EMULATOR_HOST"] == f"http://127.0.0.1:{settings.ports['storage']}"
    assert environment["PUBSUB_EMULATOR_HOST"] == f"127.0.0.1:{settings.ports['pubsub']}"


def test_this_machine_is_never_asked_for_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet")

    environment = StackSettings.choose(DAGS, tmp_path).environment()

    assert environment["NO_PROXY"] == environment["no_proxy"] == "intranet,127.0.0.1,localhost"


def test_programs_of_the_virtual_environment_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")

    assert StackSettings.choose(DAGS, tmp_path).environment()["PATH"].endswith(f"bin{os.pathsep}/usr/bin")


def test_a_saved_place_reads_back_the_same_and_is_private(tmp_path: Path) -> None:
    settings, file = StackSettings.choose(DAGS, tmp_path), tmp_path / "stack.json"

    settings.save(file)

    assert StackSettings.read(file) == settings
    assert [path.stat().st_mode & 0o777 for path in (file, tmp_path / "keys.json")] == [0o600, 0o600]


def test_the_connection_needs_no_key_file(tmp_path: Path) -> None:
    connection = json.loads(StackSettings.choose(DAGS, tmp_path).environment()["AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"])

    assert connection == {"conn_type": "google_cloud_platform", "extra": {"project": "rejeu-local"}}


def test_a_home_has_the_same_id_for_ever() -> None:
    assert stack_id(Path("/somewhere/.rejeu")) == "rejeu-6a09045ea9ad"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000], ids=range(5))
def test_a_saved_place_that_is_broken_is_told_with_what_helps(tmp_path: Path, text: str) -> None:
    file = tmp_path / "stack.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(
        StackError, match=r"stack\.json (cannot be read|is a \w+, and must be a JSON object).*; end what"
    ):
        StackSettings.read(file)


def test_a_saved_place_of_another_version_is_read_as_far_as_it_can_be(tmp_path: Path) -> None:
    settings, file = StackSettings.choose(DAGS, tmp_path), tmp_path / "stack.json"
    settings.save(file)
    kept = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(kept | {"newer": 1}), encoding="utf-8")
    assert StackSettings.read(file) == settings
    del kept["postgres"]
    file.write_text(json.dumps(kept), encoding="utf-8")
    with pytest.raises(
        StackError, match=r"has no postgres: another version of Rejeu wrote it; run `rejeu down` of that"
    ):
        StackSettings.read(file)


def test_secrets_that_are_broken_are_not_made_anew(tmp_path: Path) -> None:
    StackSettings.choose(DAGS, tmp_path)
    (tmp_path / "keys.json").write_text("{", encoding="utf-8")
    with pytest.raises(StackError, match=r"keys\.json cannot be read: .*; restore it, or remove"):
        StackSettings.choose(DAGS, tmp_path)
