"""Processes of ours: servers that run while a block does, and replays to watch, kill or wait for."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from rejeu.errors import RejeuError
from rejeu.jobs.request import ReplayRequest
from rejeu.local.processes.leftovers import end, family
from rejeu.local.processes.ports import HOST

STOP_SECONDS: Final = 3.0
WAIT_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02


@contextmanager
def serving(command: Sequence[str], **environment: str) -> Iterator[psutil.Process]:
    """The process while the block runs, with these variables added to our environment."""
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C must reach us only: we end it
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        end(family(process.pid), STOP_SECONDS)
        process.wait()


class Program:
    """A replay in a process of its own, which logs to a file in the folder."""

    def __init__(self, request: ReplayRequest, folder: Path) -> None:
        self._command = [sys.executable, "-m", request.module, *request.to_argv()]
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".log", delete=False) as log:
            self._log = Path(log.name)
            self._process = subprocess.Popen(self._command, stderr=log, start_new_session=True)
        self.pid = self._process.pid

    @property
    def said(self) -> str:
        """Its log so far."""
        return self._log.read_text(encoding="utf-8")

    def runs(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait(self, seconds: float) -> None:
        """Return once it has ended. Raises RejeuError where it failed, or takes longer."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RejeuError(f"{self} runs longer than {seconds:g} s: it must be done by then; {self.said}") from None
        if code:
            raise RejeuError(f"{self} ended with {code}: it must with 0; {self.said}")

    def stop(self) -> None:
        """Have it save its cursor and end."""
        self._process.send_signal(signal.SIGTERM)
        self.wait(WAIT_SECONDS)

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        self._process.kill()
        self._process.wait()

    def __str__(self) -> str:
        return " ".join(self._command)


@contextmanager
def replaying(request: ReplayRequest, folder: Path) -> Iterator[Program]:
    """The replay while the block runs."""
    program = Program(request, folder)
    try:
        yield program
    finally:
        program.kill()


def report_of(request: ReplayRequest, folder: Path, seconds: float) -> dict[str, Any]:
    """Run the replay to its end, and return its report. Raises RejeuError where it fails."""
    report = folder / "report.json"
    with replaying(request.model_copy(update={"report": str(report)}), folder) as program:
        program.wait(seconds)
    return dict(json.loads(report.read_text(encoding="utf-8")))


def await_port(port: int, what: str) -> None:
    """Return when somebody listens there. Raises RejeuError."""

    def answers() -> bool:
        with socket.socket() as caller:
            return caller.connect_ex((HOST, port)) == 0

    wait_until(answers, f"{what} did not listen on port {port}")


def wait_until(
    true: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS, poll_seconds: float = POLL_SECONDS
) -> None:
    """Poll until it is true. Raises RejeuError where that takes too long."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise RejeuError(f"{what} within {seconds:g} s: it must before anything is measured")
        time.sleep(poll_seconds)
