"""What the chaos lays hands on: the local stack, its streams, their processes and taps, and whether all is well."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import psutil
from numpy.typing import NDArray

from rejeu import extensions
from rejeu.local.processes.leftovers import marked
from rejeu.local.processes.supervision import Supervisor
from rejeu.local.stack.airflow_api import AirflowApi
from rejeu.local.stack.health import answers_grpc
from rejeu.local.stack.parts import AIRFLOW_GROUP, EMULATORS, PARTS, SERVER_GROUP, Part, parts_of
from rejeu.local.stack.settings import StackSettings, stack_id
from rejeu.local.stack.stack import Stack
from rejeu.spec.files import read_spec
from rejeu.state import open_store
from rejeu.state.lease import read_state
from rejeu.state.model import StreamState
from rejeu.state.standby_marker import stands_by
from rejeu.target import Target
from tests.chaos.stack.feeds import EXTRAS, FEEDS, Feed, due_seconds
from tests.chaos.stack.plan import Victim
from tests.chaos.stack.tap import Tap
from tests.paths import ROOT

WAIT_SECONDS: Final = 120.0
LIVE_SECONDS: Final = 300.0
"""How long streams that start side by side may take, on a machine that is busy with other things."""
POLL_SECONDS: Final = 0.5
SOON_SECONDS: Final = 0.05
SETTLED_SECONDS: Final = 1.5
"""How long a row may be under way before its stream counts as silent."""
EXTENSIONS: Final = Path(__file__).with_name("extensions")
HANGING: Final = "hanging"
"""The launcher of streaming jobs there."""
SOURCES: Final = "sources"
"""The folder of the rows in the scene's home."""
REPLAY, STREAM_JOB = "rejeu.replay", "beam_jobs.stream"
FORBIDDEN: Final = ("PUBSUB_EMULATOR_HOST", "REJEU_STACK", "REJEU_UI_PORT", "REJEU_SPEED", "REJEU_DAGS")
"""Variables that would make this stack somebody else's, or its rows come at another pace."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A process of the stack."""

    pid: int
    command: tuple[str, ...]

    def runs(self, module: str, stream: str) -> bool:
        """Whether it is this module at work for this stream."""
        return self.command[1:3] == ("-m", module) and f"--stream={stream}" in self.command


class Stage:
    """One stream on the scene."""

    def __init__(self, feed: Feed, event_us: NDArray[np.int64], spec_file: Path, scene: Scene) -> None:
        self.feed, self.spec = feed, read_spec(spec_file)
        self.spec_file = spec_file
        self.event_us = event_us
        self.tap = Tap(os.environ["PUBSUB_EMULATOR_HOST"], scene.target.topic(self.spec.live.topic))
        self._scene = scene

    @property
    def name(self) -> str:
        return self.feed.name

    def state(self) -> StreamState:
        """What the stream remembers."""
        return read_state(self._scene.store, self.name) or StreamState(stream=self.name)

    def due(self) -> NDArray[np.float64]:
        """When each row is due, by its number."""
        timeline = self.state().timeline
        assert timeline is not None, "a stream that flowed has a timeline"
        return due_seconds(self.event_us, timeline)

    def ails(self, jobs: Sequence[Job]) -> list[str]:
        """What is wrong with it now, in words."""
        state, replays = self.state(), [each.pid for each in jobs if each.runs(REPLAY, self.name)]
        wanted = 2 if self.feed.standby else 1
        holder = state.holder_process
        overdue = int(np.searchsorted(self.due(), time.time() - SETTLED_SECONDS)) - 1
        standby = not self.feed.standby or stands_by(self._scene.store, self.name, datetime.now(UTC))
        found = {
            f"row {overdue} is due and {self.tap.furthest} is the last that came": self.tap.furthest < overdue,
            f"{len(replays)} replays, not {wanted}": len(replays) != wanted,
            "nobody of them publishes": holder is None or holder[1] not in replays,
            "nobody stands by": not standby,
            "no streaming job": not any(each.runs(STREAM_JOB, self.name) for each in jobs),
        }
        return [f"{self.name}: {words}" for words, is_so in found.items() if is_so]


class Scene:
    """The stack while it is up, with its streams on stage."""

    def __init__(self, stack: Stack, home: Path, taps: ExitStack) -> None:
        self.stack, self.id, self.home, self._taps = stack, stack_id(home), home, taps
        self.target = Target.from_env()
        self.store = open_store(self.target.state)
        self.airflow = AirflowApi(stack.ui_url, stack.login.user, stack.login.password)
        self.stages: dict[str, Stage] = {}
        self.extras: dict[str, Stage] = {}
        """Those of the mishaps."""
        self._settings = StackSettings.read(home / "stack.json")
        self._supervisor = Supervisor(home / "run", home / "logs", self.id)

    def pid(self, victim: Victim) -> int:
        """Whom to kill now."""
        match victim:
            case Victim.REPLAY:
                return self.holder("single")
            case Victim.HOLDER:
                return self.holder("pair")
            case Victim.STANDBY:
                holder = self.holder("pair")
                return next(each.pid for each in self.jobs() if each.runs(REPLAY, "pair") and each.pid != holder)
            case Victim.STREAM_JOB:
                return self.stream_job("single")
        return next(each.pid for each in self.stack.status() if each.part == victim and each.pid is not None)

    def kill(self, pid: int) -> float:
        """SIGKILL; when that was, in seconds since the epoch."""
        at = time.time()
        os.kill(pid, signal.SIGKILL)
        return at

    def keep_away(self, part: Victim) -> None:
        """Have supervisord not start the part again until `let_back`."""
        self._supervisor.halt(_group(part), part)

    def let_back(self, part: Victim) -> None:
        """Start the part again; Pub/Sub is given back what it would not have forgotten: topics and subscriptions."""

        def is_back() -> bool:
            # Supervisord refuses while it still waits for the end of the one before.
            self._supervisor.launch(_group(part), part)
            return any(each.part == part and each.state in ("starting", "running") for each in self.stack.status())

        wait_until(is_back, f"{part} is not started again", SOON_SECONDS)
        if part is Victim.PUBSUB:
            wait_until(answers_grpc(os.environ["PUBSUB_EMULATOR_HOST"]), "Pub/Sub does not answer", SOON_SECONDS)
            self._restore_topics()

    @contextmanager
    def broker_paused(self) -> Iterator[None]:
        """Pub/Sub holds its breath while this lasts."""
        broker = psutil.Process(self.pid(Victim.PUBSUB))
        broker.suspend()
        try:
            yield
        finally:
            broker.resume()

    def await_well(self) -> None:
        """Wait until every part and every stream is well. Raises TimeoutError that says what is not."""
        parts = self._parts()
        wait_until(lambda: not self._ails(parts), lambda: "; ".join(self._ails(parts)))

    def go_live(self, stages: Sequence[Stage], say: Say) -> None:
        """Start these streams, and wait for their first rows."""
        dags = [f"{stage.name}.live" for stage in stages]
        wait_until(lambda: set(dags) <= set(self.airflow.dag_ids()), "the streams' DAGs are not there")
        for stage in stages:
            self._taps.enter_context(stage.tap)
        runs = {dag_id: self.airflow.trigger(dag_id) for dag_id in dags}
        for dag_id, run_id in runs.items():
            self.airflow.follow(dag_id, run_id, LIVE_SECONDS, say)
        wait_until(lambda: all(stage.tap.furthest >= 0 for stage in stages), "a stream had no row")

    def _ails(self, parts: Sequence[Part]) -> list[str]:
        states = {each.part: each.state for each in self.stack.status()}
        down = [each.name for each in parts if states[each.name] != "running" or not each.healthy()]
        if down:
            return [f"{name} is not well" for name in down]
        jobs = self.jobs()
        return [words for each in self.stages.values() for words in each.ails(jobs)]

    def jobs(self) -> list[Job]:
        """Every process of the stack."""
        return [job for process in marked(self.id) if (job := _job(process)) is not None]

    def _parts(self) -> list[Part]:
        """Made anew for each wait: Airflow's heartbeats count from here on."""
        assert self._settings is not None
        return parts_of(self._settings, PARTS)

    def stage(self, stream: str) -> Stage:
        """Of this name, whenever it goes live."""
        return (self.stages | self.extras)[stream]

    def stream_job(self, stream: str) -> int:
        """The process id of its streaming job."""
        return next(each.pid for each in self.jobs() if each.runs(STREAM_JOB, stream))

    def holder(self, stream: str) -> int:
        """The process id of the replay that publishes."""
        process = self.stage(stream).state().holder_process
        assert process is not None, f"{stream} is well, so somebody holds its lease"
        return process[1]

    def _restore_topics(self) -> None:
        from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

        from rejeu.gcp.topics import ensure_topic

        with PublisherClient() as publisher, SubscriberClient() as subscriber:
            for each in self.stages.values():
                ensure_topic(publisher, subscriber, each.spec, self.target)


@contextmanager
def staged(home: Path, seed: int, say: Say) -> Iterator[Scene]:
    """The scene with its first three streams alive; no process outlives it."""
    for name in FORBIDDEN:
        os.environ.pop(name, None)
    stack = Stack(ROOT / "dags", home)
    stack.down()
    shutil.rmtree(home, ignore_errors=True)
    streams, sources = home / "streams", home / SOURCES
    for folder in (streams, sources):
        folder.mkdir(parents=True)
    rows = {feed.name: feed.write(seed, streams, sources) for feed in (*FEEDS, *EXTRAS)}
    extensions.look_in(EXTENSIONS)
    os.environ |= {"REJEU_STREAMS": str(streams), "REJEU_EXTENSIONS": str(EXTENSIONS), "REJEU_JOBS": HANGING}
    try:
        stack.up(say)
        os.environ.update(stack.env())
        with ExitStack() as taps:
            scene = Scene(stack, home, taps)
            for feed in (*FEEDS, *EXTRAS):
                stage = Stage(feed, rows[feed.name], streams / f"{feed.name}.yaml", scene)
                (scene.extras if feed in EXTRAS else scene.stages)[feed.name] = stage
            scene.go_live(list(scene.stages.values()), say)
            yield scene
    finally:
        stack.down(say)


def wait_until(
    true: Callable[[], bool],
    what: str | Callable[[], str],
    poll_seconds: float = POLL_SECONDS,
    seconds: float = WAIT_SECONDS,
) -> None:
    """Raises TimeoutError where it never becomes true."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(poll_seconds)


def _job(process: psutil.Process) -> Job | None:
    with suppress(psutil.Error):
        return Job(process.pid, tuple(process.cmdline()))
    return None


def _group(part: Victim) -> str:
    return SERVER_GROUP if part in EMULATORS else AIRFLOW_GROUP
