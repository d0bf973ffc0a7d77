"""Secrets are looked up where they are needed, and are in nothing that the process says."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from rejeu.errors import PublishError, SourceError
from rejeu.replay.source.secrets import Secrets
from tests.fakes.rest import Call, Refusal, RestServer

SECRET = "s3cr3t/0f stations"
VERSION = r"/v1/projects/(?P<project>[^/]+)/secrets/(?P<name>[^/]+)/versions/(?P<version>[^/:]+):access"


class SecretManager(RestServer):
    """Secrets by name; those that are not there are told as Google tells them."""

    def __init__(self) -> None:
        super().__init__([("GET", VERSION, self._access)])
        self.secrets: dict[str, bytes] = {}

    def _access(self, call: Call) -> Any:
        if (found := self.secrets.get(call.parts["name"])) is None:
            raise Refusal(404, {"error": {"code": 404, "message": "not found"}})
        return {"name": call.path, "payload": {"data": base64.b64encode(found).decode()}}


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretManager]:
    server = SecretManager()
    monkeypatch.setenv("SECRET_MANAGER_EMULATOR_HOST", f"http://{server.address}")
    yield server
    server.close()


@pytest.fixture
def secrets() -> Secrets:
    return Secrets("rejeu-test")


def test_a_variable_is_read_when_it_is_needed(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATIONS_KEY", f"{SECRET}\n")
    assert secrets.fill("Bearer {env:STATIONS_KEY}") == f"Bearer {SECRET}"
    assert secrets.fill_options({"a": [{"b": "{env:STATIONS_KEY}"}], "c": 1}) == {"a": [{"b": SECRET}], "c": 1}


def test_a_secret_is_asked_for_once_in_the_project_that_pays(secrets: Secrets, manager: SecretManager) -> None:
    manager.secrets["stations"] = SECRET.encode()
    assert [secrets.fill("{secret:stations}") for _ in range(3)] == [SECRET] * 3
    assert [call.parts for call in manager.calls] == [
        {"project": "rejeu-test", "name": "stations", "version": "latest"}
    ]
    assert secrets.fill("{secret:projects/other/secrets/stations/versions/7}") == SECRET
    assert manager.calls[-1].parts == {"project": "other", "name": "stations", "version": "7"}


@pytest.mark.parametrize("connection", [json.dumps({"password": SECRET}), "http://rider:s3cr3t%2F0f%20stations@host/"])
def test_a_connection_gives_its_password_from_the_variable_or_the_secret_that_airflow_reads(
    connection: str, secrets: Secrets, manager: SecretManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STATIONS", connection)
    assert secrets.fill("{connection:stations}") == SECRET
    monkeypatch.delenv("AIRFLOW_CONN_STATIONS")
    manager.secrets["airflow-connections-stations"] = connection.encode()
    assert Secrets("rejeu-test").fill("{connection:stations}") == SECRET


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{env:NO_SUCH_KEY}",
            r"^\{env:NO_SUCH_KEY\} is not there, where the replay runs: set it in the environment of",
        ),
        ("{env:EMPTY_KEY}", r"^\{env:EMPTY_KEY\} is empty, or has characters that nothing can be asked with; mend it"),
        ("{env:ODD_KEY}", r"^\{env:ODD_KEY\} is empty, or has characters that nothing"),
        ("{secret:none}", r"^\{secret:none\} is not there, where the replay runs: make it \(`gcloud secrets create`\)"),
        (
            "{secret:refused}",
            "refused/versions/latest cannot be read: Secret Manager answers 403; grant roles/secretma",
        ),
        ("{secret:binary}", "binary/versions/latest cannot be read: it is no text; write a version that is"),
        ("{connection:none}", "is not there: a replay finds connections in the variable AIRFLOW_CONN_NONE, or as the"),
        ("{connection:open}", r"^\{connection:open\} has no password: write the secret into the connection's password"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told_with_the_remedy(
    text: str, message: str, secrets: Secrets, manager: SecretManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(call: Call) -> None:
        if call.parts["name"] == "refused":
            raise Refusal(403, {"error": {"code": 403}})

    manager.on_call = refuse
    manager.secrets |= {"binary": b"\xff", "airflow-connections-open": b"http://host"}
    monkeypatch.setenv("EMPTY_KEY", " ")
    monkeypatch.setenv("ODD_KEY", "a\nb")
    with pytest.raises(SourceError, match=message):
        secrets.fill(text)


def test_a_secret_manager_that_is_away_is_told(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_MANAGER_EMULATOR_HOST", "http://127.0.0.1:1")
    with pytest.raises(SourceError, match=r"latest cannot be read: .*; look at the network, then start again"):
        secrets.fill("{secret:stations}")


def test_what_is_known_is_masked_in_texts_errors_and_logs(
    secrets: Secrets, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STATIONS_KEY", SECRET)
    secrets.fill("{env:STATIONS_KEY}")
    shown = "a {env:STATIONS_KEY} and {env:STATIONS_KEY}"
    told = f"a {SECRET} and s3cr3t%2F0f%20stations"
    assert secrets.mask(told) == shown
    with pytest.raises(PublishError, match=r"^a \{env:STATIONS_KEY\} and \{env:STATIONS_KEY\}$"), secrets.masking():
        raise PublishError(told)
    logger = logging.getLogger("a logger of these tests")
    logger.addFilter(secrets)
    logger.warning("a %s and %s", SECRET, "s3cr3t%2F0f%20stations")
    assert caplog.messages == [shown]
