"""A round on its stage: the replays' processes, their state store, and waiting for what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from rejeu.jobs.request import ReplayRequest
from rejeu.state.lease import read_state
from rejeu.state.model import Status, StreamState
from rejeu.state.sqlite import SqliteStore
from tests.chaos.faked_clock import FakedClock
from tests.chaos.plan import Fault, Plan
from tests.chaos.rows import STREAM
from tests.chaos.small_disk import small_disk
from tests.chaos.watcher import Watcher
from tests.emulated.gate import Gate
from tests.paths import PLUGINS

WAIT_SECONDS: Final = 90.0
POLL_SECONDS: Final = 0.02


class Actor:
    """A replay in a process of its own; `expected` is the exit code that it must end with."""

    def __init__(self, request: ReplayRequest, broker: str, log: Path, clock: FakedClock | None = None) -> None:
        self.expected = 0
        self.clock = clock
        """The one that it lives by, where that is not the machine's."""
        self._log = log
        environment = os.environ | {"PYTHONPATH": str(PLUGINS), "PUBSUB_EMULATOR_HOST": broker}
        if clock is not None:
            environment |= clock.environment
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", request.module, *request.to_argv()],
                # A process that is killed leaves its temporary files to whoever empties the folder.
                env=environment | {"TMPDIR": str(log.parent)},
                stderr=output,
                # Paused in our group it could end all of it: an orphaned group with a stopped member gets SIGHUP.
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def said(self) -> str:
        """Its log so far."""
        return self._log.read_text(encoding="utf-8")

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals, *, expected: int = 0) -> int:
        """Send a signal, after which it must end with this code; when that was, microseconds since the epoch."""
        at_us = time.time_ns() // 1_000
        self._process.send_signal(number)
        self.expected = expected
        return at_us

    def leave(self) -> None:
        """Be gone, whatever it is doing."""
        self._process.kill()
        self._process.wait()


class Scene:
    """What a fault can lay hands on: whoever publishes, those who stand by, and the way to the broker."""

    def __init__(self, plan: Plan, request: ReplayRequest, broker: str, folder: Path) -> None:
        self.plan = plan
        self.gate = Gate(broker)
        self.state_file = state_file(request)
        self.store = SqliteStore(self.state_file)
        self.watcher = Watcher(self.store, STREAM)
        self.actors: list[Actor] = []
        self._request, self._folder = request, folder

    def start(self, **changes: object) -> Actor:
        """Start one more replay."""
        request = self._request.model_copy(update=changes)
        log = self._folder / f"replay-{len(self.actors)}.log"
        clock = FakedClock(log.with_suffix(".clock")) if self.plan.fault is Fault.CLOCKS else None
        self.actors.append(Actor(request, self.gate.address, log, clock))
        return self.actors[-1]

    def leave(self) -> None:
        """Let no process outlive it."""
        for each in self.actors:
            each.leave()

    def stand_by(self) -> Actor:
        """Start a standby, and wait until it is one."""
        standby = self.start(standby=True)
        wait_until(lambda: "standing by" in standby.said or standby.code is not None, "no standby stood by")
        return standby

    def state(self) -> StreamState:
        """What the stream remembers."""
        return read_state(self.store, STREAM) or StreamState(stream=STREAM)

    def holder(self) -> Actor:
        """Whoever publishes."""
        _, pid, *_ = str(self.state().holder).split(":")
        return next(each for each in self.actors if str(each.pid) == pid)

    def await_epoch(self, epoch: int) -> None:
        """Wait until rows are acknowledged under this epoch; or none are left to be."""

        def goes_on() -> bool:
            state = self.state()
            return state.status is Status.FINISHED or (state.epoch >= epoch and state.published > 0)

        wait_until(goes_on, f"nothing was published under epoch {epoch}")

    def await_end(self) -> None:
        """Wait until all have ended."""
        wait_until(lambda: all(each.code is not None for each in self.actors), "a replay did not end")


@contextmanager
def staged(plan: Plan, request: ReplayRequest, broker: str, folder: Path) -> Iterator[Scene]:
    """The scene while the block runs; no process outlives it."""
    with ExitStack() as stack:
        if plan.fault is Fault.DISK_FULL:
            stack.enter_context(small_disk(state_file(request).parent))
        scene = Scene(plan, request, broker, folder)
        stack.callback(scene.leave)
        stack.enter_context(scene.gate)
        if plan.fault.is_watched:
            stack.enter_context(scene.watcher)
        yield scene


def state_file(request: ReplayRequest) -> Path:
    """The file of its state store."""
    return Path(str(request.state).removeprefix("sqlite:"))


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Raises TimeoutError where it never becomes true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} within {WAIT_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
