"""The servers that the emulated tests of the jobs talk to."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.cloud.storage import Client

from rejeu.jobs.request import StreamJobRequest
from rejeu.local.servers.metadata import MetadataServer
from tests.beam_jobs.bigtables import KINDS, Bigtable, bigtable_of
from tests.beam_jobs.builders import BUCKET, READY_SECONDS, StartJob, wait_for
from tests.paths import ROOT


@pytest.fixture(scope="package")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Pub/Sub, BigQuery, Cloud Storage and a metadata server; yields the environment that names them."""
    home = tmp_path_factory.mktemp("emulators")
    buckets = home / ".cloudstorage"
    pubsub, rest, read_grpc, gcs = (_free_port() for _ in range(4))
    metadata = MetadataServer(port=0, project="rejeu-test")
    threading.Thread(target=metadata.serve_forever, daemon=True).start()
    environment = {
        "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{pubsub}",
        "BIGQUERY_EMULATOR_HOST": f"http://127.0.0.1:{rest}",
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{gcs}",
        "GCE_METADATA_HOST": f"127.0.0.1:{metadata.server_port}",
        "GCE_METADATA_IP": f"127.0.0.1:{metadata.server_port}",
        "BQEMU_GCS_LOCAL_ROOT": str(buckets),
        "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}",
    }
    bigquery = (
        "-m",
        "rejeu.local.servers.bigquery",
        "start",
        "--rest-port",
        str(rest),
        "--grpc-port",
        str(read_grpc),
        "--ephemeral",
    )
    files = ("-m", "gcp_storage_emulator", "-d", str(home), "start", "--host=127.0.0.1", f"--port={gcs}")
    programs = [
        _program(environment, home / "pubsub.log", "-m", "rejeu.local.servers.pubsub", "--port", str(pubsub)),
        _program(environment, home / "bigquery.log", *bigquery),
        _program(environment, home / "storage.log", *files),
    ]
    try:
        with grpc.insecure_channel(environment["PUBSUB_EMULATOR_HOST"]) as channel:
            grpc.channel_ready_future(channel).result(timeout=READY_SECONDS)
        _await_http(environment["BIGQUERY_EMULATOR_HOST"])
        _await_http(environment["STORAGE_EMULATOR_HOST"])
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            Client(project="rejeu-test").create_bucket(BUCKET)
            yield dict(os.environ)
    finally:
        for program in programs:
            program.kill()
            program.wait()
        metadata.shutdown()


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


def _program(environment: dict[str, str], log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, *arguments], env=os.environ | environment, stdout=output, stderr=subprocess.STDOUT
        )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _await_http(address: str) -> None:
    def answers() -> bool:
        try:
            urllib.request.urlopen(address, timeout=1).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    wait_for(answers, f"{address} answers")
