"""The Pub/Sub servers that subjects publish to: each a process of ours, started once and ended by its pid."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import grpc
import psutil
from google.cloud.pubsub_v1 import PublisherClient

from benchmarks.feed import TOPIC
from rejeu.errors import StackError
from rejeu.local.pubsub_emulator import find_google_emulator
from rejeu.local.sweep import end, family

HOST: Final = "127.0.0.1"
EMULATOR: Final = "PUBSUB_EMULATOR_HOST"
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Server:
    """A running server that has the topic."""

    name: str
    address: str
    process: psutil.Process

    def select(self) -> None:
        """Make it the one that every client of this process and of those it starts talks to."""
        os.environ[EMULATOR] = self.address


def commands() -> dict[str, list[str]]:
    """How each server is started that this machine has; `--host` and `--port` come after."""
    google = find_google_emulator()
    return {
        "null": [sys.executable, "-m", "benchmarks.null_server"],
        "built-in": [sys.executable, "-m", "rejeu.local.pubsub"],
    } | ({"google": google} if google else {})


@contextmanager
def running(name: str) -> Iterator[Server]:
    """The server while it runs; its topic has no subscription, so nothing is kept. Raises StackError."""
    address = f"{HOST}:{_free_port()}"
    host, port = address.split(":")
    process = subprocess.Popen(
        [*commands()[name], f"--host={host}", f"--port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us: we end it
    )
    try:
        _await(name, address)
        server = Server(name, address, psutil.Process(process.pid))
        server.select()
        with PublisherClient() as client:
            client.create_topic(name=TOPIC)
        yield server
    finally:
        end(family(process.pid), STOP_SECONDS)
        process.wait()


def _await(name: str, address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=START_SECONDS)
        except grpc.FutureTimeoutError:
            reason = f"did not answer on {address} within {START_SECONDS:g} s: it must before anything is measured"
            raise StackError(f"server {name} {reason}; start {' '.join(commands()[name])} by hand to see why") from None


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])
