"""The servers that the emulated tests of the jobs talk to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud.storage import Client

from rejeu.jobs.request import StreamJobRequest
from rejeu.local.processes.ports import free_port
from rejeu.local.servers.metadata import MetadataServer
from tests.beam_jobs.bigtables import KINDS, Bigtable, bigtable_of
from tests.beam_jobs.builders import BUCKET, StartJob
from tests.paths import PLUGINS, ROOT
from tests.servers import BigQuery, Storage, running


@pytest.fixture(scope="session")
def pubsub_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The built-in Pub/Sub."""
    port = free_port()
    command = [sys.executable, "-m", "rejeu.local.servers.pubsub", "--port", str(port)]
    with running(command, [port], tmp_path_factory.mktemp("pubsub") / "log"):
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="session")
def metadata_address() -> Iterator[str]:
    server = MetadataServer(port=0, project="rejeu-test")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def emulators(
    pubsub_address: str, metadata_address: str, storage_server: Storage, bigquery_server: BigQuery
) -> Iterator[dict[str, str]]:
    """Pub/Sub, BigQuery, Cloud Storage and a metadata server; yields the environment that names them."""
    environment = {
        "PUBSUB_EMULATOR_HOST": pubsub_address,
        "GCE_METADATA_HOST": metadata_address,
        "GCE_METADATA_IP": metadata_address,
        "BQEMU_GCS_LOCAL_ROOT": str(storage_server.folder),
        "PYTHONPATH": f"{PLUGINS}:{ROOT}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environment | storage_server.variables | bigquery_server.variables).items():
            patch.setenv(name, value)
        client = Client(project="rejeu-test")
        if not client.lookup_bucket(BUCKET):
            client.create_bucket(BUCKET)
        yield dict(os.environ)


@pytest.fixture
def start_job(emulators: dict[str, str], tmp_path: Path) -> Iterator[StartJob]:
    """Starts a streaming job as a process, returns when it says that it runs, and leaves none behind."""
    jobs: list[subprocess.Popen[str]] = []

    def start(request: StreamJobRequest, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "beam_jobs.stream", *request.to_argv(), "--", "--runner=DirectRunner"]
        with (tmp_path / "job.log").open("a") as log:
            job = subprocess.Popen(command, env=emulators | environment, stdout=subprocess.PIPE, stderr=log, text=True)
        jobs.append(job)
        said = job.stdout.readline() if job.stdout else ""
        assert said == f"rejeu: {request.stream}: {request.ready_text}\n", (tmp_path / "job.log").read_text()
        return job

    yield start
    for job in jobs:
        job.kill()
        job.communicate()


@pytest.fixture(params=KINDS)
def bigtable(request: pytest.FixtureRequest) -> Iterator[Bigtable]:
    """Each server of Bigtable that there is."""
    with bigtable_of(request.param) as served:
        yield served


@pytest.fixture
def fake() -> Iterator[Bigtable]:
    """The one that can be told to fail."""
    with bigtable_of("fake") as served:
        yield served
