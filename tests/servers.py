"""The servers that several tests share: each is started once and stopped by its own process; no fixture and no test.

A test names its topics, datasets and buckets so that no other test uses them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from rejeu.local.processes.ports import free_port
from tests.paths import PLUGINS, ROOT

PATIENCE_SECONDS: Final = 120.0
"""For what takes a second or two on a quiet machine: nobody but a test that fails waits for so long."""


@contextmanager
def running(
    command: Sequence[str], ports: Sequence[int], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A server that listens on these ports; an error shows the end of its log."""
    given = os.environ | {"PYTHONPATH": f"{PLUGINS}{os.pathsep}{ROOT}"} | (environment or {})
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=given, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _listens(server, ports):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} does not listen on {ports}: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        server.kill()
        server.wait()


def _listens(server: subprocess.Popen[bytes], ports: Sequence[int]) -> bool:
    """Whether this very server listens on all of them, and not another program on one."""
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(server.pid).net_connections("tcp")
        return set(ports) <= {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}
    return False


@dataclass(frozen=True)
class Storage:
    """A Cloud Storage emulator, and the folder in which its objects are files: `BUCKET/NAME`."""

    address: str
    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """What names it for any client."""
        return {"STORAGE_EMULATOR_HOST": self.address}


@contextmanager
def storage(home: Path) -> Iterator[Storage]:
    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "-d", str(home), "start", "--host=127.0.0.1"]
    with running([*command, f"--port={port}"], [port], home / "storage.log"):
        yield Storage(f"http://127.0.0.1:{port}", home / ".cloudstorage")


@dataclass(frozen=True)
class BigQuery:
    """A BigQuery emulator, which finds `gs://` in the Cloud Storage that it was given."""

    address: str
    read_address: str

    @property
    def variables(self) -> dict[str, str]:
        """What names it for any client."""
        return {"BIGQUERY_EMULATOR_HOST": self.address, "BIGQUERY_STORAGE_EMULATOR_HOST": self.read_address}


@contextmanager
def bigquery(home: Path, buckets: Path) -> Iterator[BigQuery]:
    rest, read = free_port(), free_port()
    command = [sys.executable, "-m", "rejeu.local.servers.bigquery", "start", "--ephemeral", "--log-level", "ERROR"]
    command += ["--rest-port", str(rest), "--grpc-port", str(read)]
    with running(command, [rest, read], home / "bigquery.log", {"BQEMU_GCS_LOCAL_ROOT": str(buckets)}):
        yield BigQuery(f"http://127.0.0.1:{rest}", f"127.0.0.1:{read}")
