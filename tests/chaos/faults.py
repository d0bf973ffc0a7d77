"""The faults, each done to a scene whose holder publishes; what must come of it is judged elsewhere."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from rejeu.errors import LeaseLostError
from rejeu.jobs.request import CURSOR
from rejeu.watchdog.probes.heartbeat import HeartbeatProbe
from tests.chaos.plan import Fault
from tests.chaos.rows import STREAM
from tests.chaos.scene import Scene, wait_until

SILENCE: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class Break:
    """The holder of `epoch` went away at `at_us`, and maybe woke up at `woke_us` (microseconds since the epoch).

    `abrupt`: without having saved its cursor. `standby`: another one was there to take over.
    """

    epoch: int
    at_us: int
    abrupt: bool = True
    standby: bool = True
    woke_us: int | None = None


def _kill_alone(scene: Scene) -> list[Break]:
    """Then relaunch as the watchdog does: once the probe calls it silence, from the cursor."""
    epoch, at_us = scene.state().epoch, scene.holder().send(signal.SIGKILL, expected=-signal.SIGKILL)
    probe = HeartbeatProbe(scene.store, STREAM, SILENCE, SILENCE)
    wait_until(lambda: probe.check(datetime.now(UTC)).signal.needs_relaunch, "the probe saw no silence")
    scene.start(from_=CURSOR)
    scene.await_epoch(epoch + 1)
    return [Break(epoch, at_us, standby=False)]


def _kill(scene: Scene) -> list[Break]:
    epoch, at_us = scene.state().epoch, scene.holder().send(signal.SIGKILL, expected=-signal.SIGKILL)
    scene.await_epoch(epoch + 1)
    return [Break(epoch, at_us)]


def _kill_twice(scene: Scene) -> list[Break]:
    first = _kill(scene)
    time.sleep(scene.plan.moment / 2)
    return first + _kill(scene) if scene.state().holder else first


def _pause(scene: Scene) -> list[Break]:
    """Until somebody else has taken over and gone on for a while."""
    holder, epoch = scene.holder(), scene.state().epoch
    at_us = holder.send(signal.SIGSTOP)
    scene.await_epoch(epoch + 1)
    time.sleep(scene.plan.length / 3)
    woke_us = holder.send(signal.SIGCONT, expected=LeaseLostError.exit_code)
    return [Break(epoch, at_us, woke_us=woke_us)]


def _stop(scene: Scene) -> list[Break]:
    epoch, at_us = scene.state().epoch, scene.holder().send(signal.SIGTERM)
    scene.await_epoch(epoch + 1)
    return [Break(epoch, at_us, abrupt=False)]


def _kill_standby(scene: Scene) -> list[Break]:
    holder = scene.holder()
    next(each for each in scene.actors if each is not holder).send(signal.SIGKILL, expected=-signal.SIGKILL)
    return []


def _cut(scene: Scene) -> list[Break]:
    scene.gate.shut()
    time.sleep(scene.plan.length)
    scene.gate.open()
    return []


FAULTS: Final[dict[Fault, Callable[[Scene], list[Break]]]] = {
    Fault.KILL_ALONE: _kill_alone,
    Fault.KILL: _kill,
    Fault.KILL_TWICE: _kill_twice,
    Fault.PAUSE: _pause,
    Fault.STOP: _stop,
    Fault.KILL_STANDBY: _kill_standby,
    Fault.CUT: _cut,
}
