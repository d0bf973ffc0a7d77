"""A Bigtable of either kind with an empty table, and what is asked of it; no fixture and no test."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import pytest
from google.cloud.bigtable import Client
from google.cloud.bigtable.data import Table

from rejeu.gcp.bigtable import ensure_served, read_statuses
from rejeu.gcp.clients import bigtable_table
from rejeu.local.processes.ports import free_port
from rejeu.local.servers.bigtable_emulator import find_bigtable_emulator
from tests.beam_jobs.builders import READY_SECONDS
from tests.fakes.bigtable_server import BigtableServer

PROJECT = "rejeu-test"
STREAM = "site_access"
KINDS = ["fake", *(["google"] if find_bigtable_emulator() else [])]


@dataclass(frozen=True)
class Bigtable:
    """One instance; `fake` is the server where it is ours, which misbehaves on command."""

    instance_id: str
    address: str
    fake: BigtableServer | None

    @property
    def instance(self) -> str:
        return f"projects/{PROJECT}/instances/{self.instance_id}"

    @property
    def table(self) -> Table:
        return bigtable_table(self.instance, STREAM, READY_SECONDS)

    def ensure(self) -> None:
        ensure_served(Client(project=PROJECT, admin=True), self.instance_id, STREAM)

    def occupancies(self) -> dict[tuple[str, ...], int]:
        """How many are at each site, and at each service of one."""
        return {names: status.occupancy for names, status in read_statuses(self.table).items()}


@contextmanager
def bigtable_of(kind: str) -> Iterator[Bigtable]:
    """An instance that no other test uses, named in BIGTABLE_EMULATOR_HOST as for any client."""
    with _server(kind) as (address, fake), pytest.MonkeyPatch.context() as environment:
        environment.setenv("BIGTABLE_EMULATOR_HOST", address)
        bigtable = Bigtable(f"i{uuid.uuid4().hex}", address, fake)
        bigtable.ensure()
        yield bigtable


@contextmanager
def _server(kind: str) -> Iterator[tuple[str, BigtableServer | None]]:
    if kind == "fake":
        with BigtableServer() as fake:
            yield fake.address, fake
        return
    port = free_port()
    command = [*(find_bigtable_emulator() or []), "--host=127.0.0.1", f"--port={port}"]
    program = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=READY_SECONDS)
        yield f"127.0.0.1:{port}", None
    finally:
        program.kill()
        program.wait()
