"""The faults, each done to a scene whose holder publishes; what must come of it is judged elsewhere."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rejeu.errors import LeaseLostError
from rejeu.jobs.request import CURSOR
from rejeu.watchdog.probes.heartbeat import HeartbeatProbe
from tests.chaos.plan import Fault
from tests.chaos.rows import STREAM
from tests.chaos.scene import WAIT_SECONDS, Scene, wait_until
from tests.chaos.small_disk import filled
from tests.chaos.watcher import SILENCE

SETTLED_SECONDS: Final = 1.6
"""How long a clock stays: longer than a lease, and than five renewals of it."""
SLOW_SECONDS, BREATH_SECONDS = 0.3, 0.15
"""A writer waits for a good part of its lease; whoever waits for SQLite looks again after 0.1 s at the latest."""


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


def _step_clocks(scene: Scene) -> list[Break]:
    """The holder's ahead and its standby's behind, then the other way round, then both back; the watcher's stays."""
    holder = scene.holder()
    for ahead in (scene.plan.step, -scene.plan.step, 0.0):
        for each in scene.actors:
            assert each.clock is not None, "every replay of this round has a clock of its own"
            each.clock.step(ahead if each is holder else -ahead)
        time.sleep(SETTLED_SECONDS)
    return []


def _slow_store(scene: Scene) -> list[Break]:
    """Somebody else writes into the same file again and again, and takes his time for it."""
    until = time.monotonic() + 2 * scene.plan.length
    with closing(sqlite3.connect(scene.state_file, timeout=WAIT_SECONDS, isolation_level=None)) as writer:
        while time.monotonic() < until:
            writer.execute("BEGIN IMMEDIATE")
            time.sleep(SLOW_SECONDS)
            writer.execute("COMMIT")
            time.sleep(BREATH_SECONDS)
    return []


def _take_store_away(scene: Scene) -> list[Break]:
    """Its folder is a file for a while, in which nobody can open anything, whoever he is."""
    folder = scene.state_file.parent
    away = folder.with_suffix(".away")
    folder.rename(away)
    folder.touch()
    time.sleep(scene.plan.outage)
    folder.unlink()
    away.rename(folder)
    return []


def _fill_disk(scene: Scene) -> list[Break]:
    with filled(scene.state_file.parent):
        time.sleep(scene.plan.outage)
    return []


FAULTS: Final[dict[Fault, Callable[[Scene], list[Break]]]] = {
    Fault.KILL_ALONE: _kill_alone,
    Fault.KILL: _kill,
    Fault.KILL_TWICE: _kill_twice,
    Fault.PAUSE: _pause,
    Fault.STOP: _stop,
    Fault.KILL_STANDBY: _kill_standby,
    Fault.CUT: _cut,
    Fault.CLOCKS: _step_clocks,
    Fault.STORE_SLOW: _slow_store,
    Fault.STORE_AWAY: _take_store_away,
    Fault.DISK_FULL: _fill_disk,
}
