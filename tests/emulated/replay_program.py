"""A replay in a process of its own, and what came of it; no fixture and no test."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psutil
from google.pubsub_v1.types import PubsubMessage

from rejeu.state.lease import read_state
from rejeu.state.model import StreamState
from rejeu.state.sqlite import SqliteStore
from tests.emulated.pubsub_feed import Feed
from tests.paths import PLUGINS

STREAM = "clicks"
SECONDS = 120.0
"""As long as a busy machine may take; only a test that fails waits for so long."""


class Program:
    """A replay in a process of its own."""

    def __init__(self, *flags: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rejeu.cli", "replay", *flags],
            env=os.environ | {"PYTHONPATH": str(PLUGINS)} | environment,
            stderr=subprocess.PIPE,
            text=True,
            # Paused in our group it could end all of it: an orphaned group with a stopped member gets SIGHUP (POSIX).
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def pause(self, store: Path) -> None:
        """Stop it by SIGSTOP, while it writes nothing: else nobody could use its state store from then on."""
        while True:
            self.signal(signal.SIGSTOP)
            wait_until(lambda: psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED)
            if not _is_locked(store):
                return
            self.signal(signal.SIGCONT)

    def end(self) -> tuple[int, str]:
        """Its exit code and all that it said."""
        _, said = self._process.communicate(timeout=SECONDS)
        return self._process.returncode, said

    def end_for_sure(self) -> None:
        """Leave no process behind, however the test went."""
        self._process.kill()
        self._process.communicate()


def _is_locked(store: Path) -> bool:
    with closing(sqlite3.connect(store, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


def take(feed: Feed, at_least: int) -> list[PubsubMessage]:
    """Pull and acknowledge so many messages; more, where more came at once."""
    messages: list[PubsubMessage] = []
    while len(messages) < at_least:
        received = feed.pull()
        feed.acknowledge(received)
        messages += [each.message for each in received]
    return messages


def take_all(feed: Feed) -> list[PubsubMessage]:
    """Pull and acknowledge all that is there; to be asked once nobody publishes any more."""
    messages: list[PubsubMessage] = []
    while received := feed.subscriber.pull(
        subscription=feed.subscription, max_messages=1_000, return_immediately=True
    ).received_messages:
        feed.acknowledge(received)
        messages += [each.message for each in received]
    return messages


def by_time(messages: list[PubsubMessage]) -> list[PubsubMessage]:
    """In replay order: requests that are under way together overtake each other."""
    return sorted(messages, key=lambda message: (message.attributes["event_time"], message.attributes["row_id"]))


def row_ids(messages: list[PubsubMessage]) -> list[str]:
    return [message.attributes["row_id"] for message in by_time(messages)]


def state_in(store: SqliteStore) -> StreamState:
    state = read_state(store, STREAM)
    assert state is not None
    return state


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, "it never was so"
        time.sleep(0.02)


def lease_runs_out(store: SqliteStore) -> None:
    def is_over() -> bool:
        until = state_in(store).lease_until
        return until is None or until < datetime.now(UTC)

    wait_until(is_over)
