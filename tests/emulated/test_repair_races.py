"""Races for a stream's replay: however its DAGs' tasks meet, one replay feeds it afterwards, or none after a stop.

Each task runs in a process of its own, as in Airflow, on a real state store and with real replays; it is held up before
it begins and at the store's and the launcher's doors, by seeded times, so that the others come in between.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import psutil
import pytest

from rejeu.handover import Decision, Start
from rejeu.jobs.build import stream_job_request
from rejeu.launchers.choose import job_launcher
from rejeu.ports import Missing, Verdict
from rejeu.spec.model import StreamSpec
from rejeu.state import open_store
from rejeu.state.documents import SideDocument
from rejeu.state.lease import read_state
from rejeu.state.model import Status, StreamState
from rejeu.target import Target
from rejeu.testing.launchers import SmallJob
from rejeu.timeline import Position, format_instant, from_us, to_us
from rejeu.watchdog.watch import Watch, WatchPlan
from tests.chaos.collector import PROJECT, Collector, Got
from tests.chaos.plan import plan
from tests.chaos.rows import START_US, STREAM, write_rows
from tests.chaos.verdict import in_flight, judge
from tests.emulated.pubsub_feed import PubSubServer

pytestmark = [
    pytest.mark.emulated,
    pytest.mark.parametrize("pubsub", ["built-in"], indirect=True, scope="module"),
]

SECONDS: Final = 30.0
RATE: Final = 200
ROWS: Final = 300 * RATE
"""At speed 1 more than any number of rounds takes."""
ROW_US: Final = 1_000_000 // RATE
PLAN: Final = replace(plan(1, 0, ["built-in"]), rate=RATE, rows=ROWS, suffix=".parquet", ordered=False)
DOOR_SECONDS: Final = 0.04
HELD_SECONDS: Final = 0.5
"""As long as another task takes from its beginning to its end, on a machine that is not too busy."""

TASKS: Final = multiprocessing.get_context("forkserver")
TASKS.set_forkserver_preload(
    ["rejeu.airflow.operators.live", "rejeu.airflow.operators.watchdog", "tests.airflow.builders"]
)


class Role(StrEnum):
    """The tasks that meet."""

    RELAUNCH = "relaunch"
    START = "start"
    STOP = "stop"
    RESTORE = "restore"


class Door:
    """What a store or a launcher stands behind: one hesitates before each call, and is held once before one of them."""

    def __init__(self, behind: Any, drawn: random.Random, held_at: str | None, hold: Callable[[], object]) -> None:
        self._behind, self._drawn, self._held_at, self._hold = behind, drawn, held_at, hold

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            time.sleep(self._drawn.uniform(0, DOOR_SECONDS))
            if name == self._held_at and arguments[0] != SideDocument.LAUNCH_LOCK.of(STREAM):
                self._held_at = None
                self._hold()
            return getattr(self._behind, name)(*arguments, **options)

        return call


@dataclass(frozen=True)
class Actor:
    """One task of one DAG run; `seed` says when it begins, or, for one that is held at a door, how it hesitates."""

    role: Role
    seed: str
    held_at: str | None
    until_told: bool
    spec: StreamSpec
    environment: Mapping[str, str]
    decision: Decision | None

    def play(self, all_here: Any, said: Any) -> None:
        """Carry the task out in this process, once all are here; says what came of it."""
        from airflow.sdk.exceptions import AirflowSkipException

        from tests.airflow.builders import a_run

        os.environ.update(self.environment)
        drawn = random.Random(self.seed)
        task = self._task()

        def hold() -> None:
            if self.until_told:
                all_here.wait(SECONDS)
                all_here.wait(SECONDS)
            else:
                time.sleep(HELD_SECONDS)

        vars(task).update({door: Door(getattr(task, door), drawn, self.held_at, hold) for door in ("store", "replays")})
        all_here.wait(SECONDS)
        if self.held_at is None:
            time.sleep(drawn.uniform(0, HELD_SECONDS))
        try:
            task.execute(a_run(run_id=self.seed))
            said.put(f"{self.role}: done")
        except AirflowSkipException as skipped:
            said.put(f"{self.role}: skipped: {skipped}")

    def _task(self) -> Any:
        from airflow.sdk import Asset

        from rejeu.airflow.operators.live import StartReplay, StopReplay
        from rejeu.airflow.operators.watchdog import RelaunchReplay, Restore

        common: dict[str, Any] = {"task_id": str(self.role), "spec": self.spec}
        match self.role:
            case Role.RELAUNCH:
                return RelaunchReplay(**common, signal_asset=Asset(name="signal", uri="x-rejeu://chaos/signal"))
            case Role.START:
                assert self.decision is not None
                at = format_instant(self.decision.at) if self.decision.at else None
                return StartReplay(**common, decision={**vars(self.decision), "at": at})
            case Role.STOP:
                return StopReplay(**common)
            case Role.RESTORE:
                return Restore(**common)


class Stage:
    """A stream whose replay is fought for: what it remembers, which of its jobs live, and what arrived."""

    def __init__(self, folder: Path, broker: str, collector: Collector, *, standby: bool) -> None:
        self._collector = collector
        self._rows = write_rows(PLAN, folder / "rows.parquet")
        self._furthest = 0
        self._jobs_wanted = 2 if standby else 1
        self._environment = {
            "PUBSUB_EMULATOR_HOST": broker,
            "REJEU_PROJECT": PROJECT.removeprefix("projects/"),
            "REJEU_STATE": f"sqlite:{folder / 'state.db'}",
            "REJEU_HOME": str(folder),
            # A process that is killed leaves its temporary files to whoever empties the folder.
            "TMPDIR": str(folder),
        }
        self._target = Target.from_env(self._environment)
        self._store = open_store(self._target.state)
        self._spec = StreamSpec.model_validate(
            {
                "stream": STREAM,
                "event_time": "at",
                "key": ("symbol", "n"),
                "live": {"topic": collector.topic.rpartition("/")[2], "table": "chaos.rows"},
                "replay": {"source": {"files": str(folder / "rows.parquet")}, "standby": standby},
                "watchdog": {"silence": "200ms"},
            }
        )
        self._watch = Watch(WatchPlan.of(self._spec, self._target))

    def __enter__(self) -> Self:
        """With a streaming job, which nobody need restore."""
        self._stream_job = stream_job_request(self._spec, self._target).job_name
        job = SmallJob(("wait",), self._stream_job)
        job_launcher(self._target).start(job)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no process behind, however the tests went."""
        job_launcher(self._target).stop(self._stream_job, drain=False)
        for session in self.jobs():
            with suppress(ProcessLookupError):
                os.killpg(session, signal.SIGKILL)

    @property
    def state(self) -> StreamState:
        state = read_state(self._store, STREAM) or StreamState(stream=STREAM)
        self._furthest = max(self._furthest, state.cursor.event_us if state.cursor else 0)
        return state

    def look(self) -> Verdict:
        """What the watchdog sees."""
        return self._watch.look(datetime.now(UTC))

    def jobs(self) -> set[int]:
        """The sessions of all replays that live: each job has one of its own."""
        found = set()
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if f"--state={self._target.state}" in process.cmdline():
                    found.add(os.getsid(process.pid))
        return found

    def meet(self, *roles: Role, seed: str, held_at: str | None = None, decision: Decision | None = None) -> list[str]:
        """Have the tasks meet, with the first one of them held; what each said at its end."""
        all_here, said = TASKS.Barrier(len(roles)), TASKS.SimpleQueue()
        tasks = [
            self._begin(
                Actor(role, f"{seed}/{at}", None if at else held_at, False, *self._scene, decision), all_here, said
            )
            for at, role in enumerate(roles)
        ]
        for each in tasks:
            each.join(SECONDS)
        assert [each.exitcode for each in tasks] == [0] * len(tasks), "each comes to its end"
        return [said.get() for _ in tasks]

    def meanwhile(self, role: Role, held_at: str, act: Callable[[], object]) -> str:
        """Have the task come to that door, do something, and let it go on; what it said at its end."""
        both_here, said = TASKS.Barrier(2), TASKS.SimpleQueue()
        task = self._begin(Actor(role, str(role), held_at, True, *self._scene, None), both_here, said)
        both_here.wait(SECONDS)
        both_here.wait(SECONDS)
        act()
        both_here.wait(SECONDS)
        task.join(SECONDS)
        assert task.exitcode == 0
        return str(said.get())

    def come_to_life(self, seed: str) -> None:
        """Be published, by the replay that is there or by one that goes on where the last one ended."""
        if not self.jobs():
            start = Start.RESUME if self.state.cursor else Start.FIRST_ROW
            self.meet(Role.START, seed=seed, decision=Decision(start, None, "goes on"))
        self.check_life()

    def send(self, number: signal.Signals) -> None:
        """Send the process that holds the lease a signal."""
        assert self.state.holder_process is not None
        os.kill(self.state.holder_process[1], number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    def pause(self) -> None:
        """Pause the one that publishes, outside of a write: within one, SQLite has it lock everybody out."""
        wait_until(self._is_paused_outside_of_a_write, "it is always writing")

    def _is_paused_outside_of_a_write(self) -> bool:
        assert self.state.holder_process is not None
        process = psutil.Process(self.state.holder_process[1])
        process.suspend()
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "it is not paused")
        with closing(sqlite3.connect(self._target.state.removeprefix("sqlite:"), timeout=0)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                process.resume()
                return False
        return True

    def fall_silent(self, strike: Callable[[], None], seed: str) -> None:
        """Be published, and have the one that publishes struck; until the watchdog would relaunch it."""
        self.come_to_life(seed)
        strike()
        wait_until(lambda: self.look().signal.needs_relaunch, "the watchdog sees no silence")

    def check_life(self) -> None:
        """As many replays live as are wanted, one of them holds the lease and publishes, and none of them ends."""
        assert len(self.jobs()) == self._jobs_wanted
        wait_until(lambda: self.state.published > 0 and self.state.status is Status.RUNNING, "nothing is published")
        wait_until(lambda: bool(self._arrived(self.state.epoch)), "nothing arrives")
        wait_until(lambda: not self.look().missing, "nobody stands by")
        assert len(self.jobs()) == self._jobs_wanted
        state = self.state
        assert state.wanted
        assert state.holder_process is not None
        assert os.getsid(state.holder_process[1]) in self.jobs()

    def check_stop(self) -> None:
        """No replay lives, and none is waited for."""
        assert self.jobs() == set()
        state = self.state
        assert not state.wanted
        assert state.lease_until is None or state.lease_until < datetime.now(UTC)

    def check_place(self, at: datetime) -> None:
        """The replay that publishes began where somebody said by hand."""
        assert self.state.since == Position(to_us(at))
        assert min(int(each.row_id.split("/")[1]) for each in self._arrived(self.state.epoch)) == to_us(at)

    def check_rows(self) -> None:
        """Every row up to the furthest cursor has arrived, and there were never two who published."""
        owed = {row_id: row for row_id, row in self._rows.items() if START_US + row.n * ROW_US < self._furthest}
        wait_until(lambda: owed.keys() <= {each.row_id for each in list(self._collector.got)}, "rows are lost")
        found = judge(PLAN, owed, [], list(self._collector.got))
        assert found.spoilt == 0
        assert found.backward <= in_flight(RATE)

    @property
    def _scene(self) -> tuple[StreamSpec, Mapping[str, str]]:
        return self._spec, self._environment

    def _begin(self, actor: Actor, all_here: Any, said: Any) -> Any:
        task = TASKS.Process(target=actor.play, args=(all_here, said))
        task.start()
        return task

    def _arrived(self, epoch: int) -> list[Got]:
        return [each for each in list(self._collector.got) if each.epoch == epoch]


def wait_until(true: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


@pytest.fixture(scope="module", autouse=True)
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where the tasks' processes, which all come of one, have their Airflow."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
        yield


@pytest.fixture(scope="module")
def stage(pubsub: PubSubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One stream for all rounds: each goes on from where the one before left it."""
    with (
        Collector(pubsub.address, ordered=False) as collector,
        Stage(tmp_path_factory.mktemp("one"), pubsub.address, collector, standby=False) as set_,
    ):
        yield set_


@pytest.fixture
def pair(pubsub: PubSubServer, tmp_path: Path) -> Iterator[Stage]:
    """A stream with one that stands by, who has taken over."""
    with (
        Collector(pubsub.address, ordered=False) as collector,
        Stage(tmp_path, pubsub.address, collector, standby=True) as set_,
    ):
        set_.come_to_life("pair")
        set_.kill()
        wait_until(lambda: Missing.STANDBY in set_.look().missing, "the standby did not take over")
        yield set_


@dataclass(frozen=True)
class Cast:
    """Who meets: the first one is `held_at` a door, while the others come at some time."""

    held_at: str
    roles: tuple[Role, ...]

    def __str__(self) -> str:
        first, *others = self.roles
        return f"{' and '.join(others)} while {first} is about to {self.held_at}"


RELAUNCH, START, STOP, RESTORE = Role
CASTS = [
    Cast("save", (RELAUNCH, RELAUNCH)),
    Cast("stop", (RELAUNCH, START)),
    Cast("save", (START, RELAUNCH)),
    Cast("stop", (RELAUNCH, RELAUNCH, START)),
    Cast("save", (RELAUNCH, STOP)),
    Cast("start", (RELAUNCH, STOP)),
    Cast("stop", (STOP, RELAUNCH)),
    Cast("save", (START, STOP)),
    Cast("stop", (STOP, START)),
    Cast("stop", (RELAUNCH, START, STOP)),
]


@pytest.mark.parametrize("cast", CASTS, ids=str)
def test_one_replay_feeds_the_stream_or_none_after_a_stop(cast: Cast, stage: Stage) -> None:
    if RELAUNCH in cast.roles:
        stage.fall_silent(stage.kill, f"before {cast}")
    by_hand = from_us(START_US + ROW_US * random.Random(str(cast)).randrange(RATE // 4))

    decision = Decision(Start.AT, by_hand, "by hand")
    said = stage.meet(*cast.roles, seed=str(cast), held_at=cast.held_at, decision=decision)

    assert said.count(f"{RELAUNCH}: done") <= 1
    if STOP in cast.roles and not (START in cast.roles and stage.state.wanted):
        stage.check_stop()
    else:
        stage.check_life()
        if START in cast.roles:
            stage.check_place(by_hand)
    stage.check_rows()


def test_a_replay_that_wakes_up_while_it_is_taken_for_dead_is_left_alone(stage: Stage) -> None:
    stage.fall_silent(stage.pause, "before it wakes up")
    epoch = stage.state.epoch

    def wake() -> None:
        stage.send(signal.SIGCONT)
        wait_until(lambda: not stage.look().signal.needs_relaunch, "it does not go on")

    assert "nothing to repair" in stage.meanwhile(RELAUNCH, "save", wake)
    stage.check_life()
    assert stage.state.epoch == epoch
    stage.check_rows()


def test_what_stands_by_is_restored_once(pair: Stage) -> None:
    pair.meet(RESTORE, RESTORE, seed="restore", held_at="start")
    pair.check_life()
    pair.check_rows()


def test_nothing_is_restored_after_a_stop(pair: Stage) -> None:
    pair.meet(RESTORE, RESTORE, STOP, seed="restore and stop", held_at="start")
    pair.check_stop()
    pair.check_rows()
