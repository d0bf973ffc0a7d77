"""The servers that subjects use, Pub/Sub and BigQuery: each is a process of ours, ended by its pid."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import psutil
from google.cloud import bigquery
from google.cloud.pubsub_v1 import PublisherClient

from benchmarks import cloud
from benchmarks.feed import TOPIC
from benchmarks.processes import serving
from rejeu.errors import StackError
from rejeu.gcp.clients import bigquery_client, publisher_channel
from rejeu.local.processes.ports import HOST, free_port
from rejeu.local.servers.pubsub_emulator import find_google_emulator

EMULATOR: Final = "PUBSUB_EMULATOR_HOST"
VARIABLES: Final = (EMULATOR, *cloud.VARIABLES)
"""The environment variables that would lead clients to another server."""
START_SECONDS: Final = 60.0
PROJECT: Final = "rejeu-bench"
NULL: Final = "null"
NULL_TLS: Final = "null-tls"
BUILT_IN: Final = "built-in"


@dataclass(frozen=True)
class Server:
    """A running server with the topic, and the environment in which clients find it."""

    name: str
    environment: Mapping[str, str]
    process: psutil.Process

    def select(self) -> None:
        """Make all clients of this process and of its children use this server."""
        for variable in VARIABLES:
            os.environ.pop(variable, None)
        os.environ.update(self.environment)


def commands() -> dict[str, list[str]]:
    """The command of each server that this machine has; `--host` and `--port` are added."""
    null = [sys.executable, "-m", "benchmarks.null_server"]
    google = find_google_emulator()
    return {
        NULL: null,
        NULL_TLS: null,
        BUILT_IN: [sys.executable, "-m", "rejeu.local.servers.pubsub"],
    } | ({"google": google} if google else {})


@contextmanager
def running(name: str, *flags: str) -> Iterator[Server]:
    """The server while the block runs; its topic has no subscription, so nothing is kept. Raises StackError."""
    port = free_port()
    command = [*commands()[name], f"--host={HOST}", f"--port={port}", *flags]
    if name != NULL_TLS:
        with serving(command) as process:
            yield _ready(Server(name, {EMULATOR: f"{HOST}:{port}"}, process))
        return
    with tempfile.TemporaryDirectory(prefix="rejeu-bench-") as folder:
        certificate = cloud.write_certificate(Path(folder))
        with serving([*command, f"--tls={certificate}"]) as process, cloud.leading_to(port, certificate) as environment:
            yield _ready(Server(name, environment, process))


@contextmanager
def bigquery_emulator(**environment: str) -> Iterator[bigquery.Client]:
    """BigQuery's emulator, empty, while the block runs; all clients of this process and of its children use it."""
    rest, storage = free_port(), free_port()
    command = [sys.executable, "-m", "rejeu.local.servers.bigquery", "start", "--ephemeral"]
    with serving([*command, f"--rest-port={rest}", f"--grpc-port={storage}"], **environment):
        os.environ["BIGQUERY_EMULATOR_HOST"] = f"http://{HOST}:{rest}"
        os.environ["BIGQUERY_STORAGE_EMULATOR_HOST"] = f"{HOST}:{storage}"
        with grpc.insecure_channel(f"{HOST}:{storage}") as channel:
            grpc.channel_ready_future(channel).result(timeout=START_SECONDS)
        yield bigquery_client(PROJECT)


def _ready(server: Server) -> Server:
    server.select()
    with publisher_channel() as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=START_SECONDS)
        except grpc.FutureTimeoutError:
            reason = f"did not answer within {START_SECONDS:g} s: it must before anything is measured"
            command = " ".join(commands()[server.name])
            raise StackError(f"server {server.name} {reason}; start {command} by hand to see why") from None
    with PublisherClient() as client:
        client.create_topic(name=TOPIC)
    return server
