"""The metadata server's stand-in, and the clients' credentials: Google's own libraries find both by environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rejeu.gcp.clients import bigquery_client, storage_client
from rejeu.local.servers.metadata import MetadataServer

ASK = """
import google.auth, google.auth.transport.requests
credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
for _ in range(2):  # the second time it asks by the account's name
    credentials.refresh(google.auth.transport.requests.Request())
print(project, credentials.token, credentials.service_account_email)
"""


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with MetadataServer(0, "some-project") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def environment(port: int, home: Path) -> dict[str, str]:
    named = {"GCE_METADATA_HOST": f"127.0.0.1:{port}", "GCE_METADATA_IP": f"127.0.0.1:{port}", "HOME": str(home)}
    return {key: value for key, value in os.environ.items() if not key.startswith("GOOGLE_")} | named


@pytest.mark.emulated
def test_google_auth_finds_project_and_token_unpatched(server: MetadataServer, tmp_path: Path) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASK],
        env=environment(server.server_port, tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert asked.stdout.split() == ["some-project", "local", "rejeu-local"]


@pytest.mark.emulated
def test_it_stops_when_it_is_told_to() -> None:
    command = [sys.executable, "-u", "-m", "rejeu.local.servers.metadata", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "serving" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_an_emulator_is_asked_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    assert bigquery_client("p")._connection.API_BASE_URL == "http://127.0.0.1:1"
    assert storage_client("p")._connection.API_BASE_URL == "http://127.0.0.1:1"
