"""Mishaps on the scene: what happens to a stream beside the end of a process, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import psutil

from rejeu.jobs.build import stream_job_request
from rejeu.launchers.process import ProcessLauncher
from rejeu.ports import JobState
from rejeu.state.model import Status
from tests.chaos.stack.extensions.hanging import HANGS
from tests.chaos.stack.plan import WAVES, Mishap
from tests.chaos.stack.result import Happened
from tests.chaos.stack.rounds import FAILURES, words_of
from tests.chaos.stack.scene import SOURCES, WAIT_SECONDS, Say, Scene, Stage, wait_until
from tests.chaos.stack.sources import delete_table, delete_topic_and_make_it_again, load_table
from tests.chaos.stack.truth import Truth
from tests.chaos.stack.verdict import Incident

SOON_SECONDS: Final = 0.05
SLOW_SECONDS: Final = 2.0
"""How long the next task waits for a job that drains, or a watch for a service that hangs."""
DRAIN_SECONDS: Final = 20.0
"""After so long the drain goes on in any case: whoever began it kills the job after half a minute."""
PATIENT_SECONDS: Final = 20.0
"""How long a stream may be silent whose replay dies while the jobs API hangs: less than the API takes to give up."""
TRIES: Final = 2
"""How many relaunches come to nothing before the table is there again."""


@dataclass(frozen=True)
class Act:
    """A mishap about to happen."""

    scene: Scene
    stage: Stage
    say: Say

    @property
    def name(self) -> str:
        return self.stage.name

    def kill(self) -> tuple[float, int]:
        """Kill the replay; when that was, and under which epoch."""
        epoch = self.stage.state().epoch
        return self.scene.kill(self.scene.holder(self.name)), epoch

    def await_signal(self, since: float, epoch: int) -> float:
        """Wait for a row of a later epoch; how many seconds after `since` it came."""
        tap = self.stage.tap
        wait_until(lambda: tap.next_after(since, epoch) is not None, f"{self.name}: no message came any more")
        came = tap.next_after(since, epoch)
        assert came is not None, "it was just there"
        return came.arrived - since

    def begin(self, kind: str) -> str:
        """Start a run of one of the stream's DAGs."""
        return self.scene.airflow.trigger(f"{self.name}.{kind}")

    def follow(self, kind: str, run_id: str) -> None:
        """Wait for its end. Raises StackError where it fails."""
        self.scene.airflow.follow(f"{self.name}.{kind}", run_id, WAIT_SECONDS, self.say)


def _restart(act: Act) -> list[str]:
    """Start the stream while its streaming job drains, slowly."""
    job = stream_job_request(act.stage.spec, act.scene.target).job_name
    launcher = ProcessLauncher(act.scene.target.home / "jobs")
    before = act.scene.stream_job(act.name)

    def is_draining() -> bool:
        found = launcher.find(job)
        return found is not None and found.state is JobState.DRAINING

    with _suspended(before):
        stop = act.begin("stop")
        wait_until(is_draining, f"{act.name}: its streaming job does not drain", SOON_SECONDS)
        deadline = time.monotonic() + DRAIN_SECONDS
        live = act.begin("live")
        while not _is_under_way(act, live, "start_stream") and time.monotonic() < deadline:
            time.sleep(SOON_SECONDS)
        time.sleep(SLOW_SECONDS)
        met = is_draining()
    act.follow("stop", stop)
    act.follow("live", live)
    wrong = [] if met else ["the job had drained before `live` came to it: nothing was tried"]
    return wrong + (["the job that drained was adopted"] if act.scene.stream_job(act.name) == before else [])


def _lose_table(act: Act) -> list[str]:
    """The source is gone when the replay is started again, and comes back after a while."""
    delete_table(act.scene.target, act.stage.feed.table)
    killed, epoch = act.kill()
    said = set[str]()

    def tries() -> int:
        state = act.stage.state()
        said.add(state.error or "")
        return state.incidents[-1].attempts if state.incidents and not state.incidents[-1].recorded else 0

    wait_until(lambda: tries() >= TRIES, f"{act.name}: it is not relaunched {TRIES} times")
    load_table(act.scene.target, act.stage.feed, act.scene.home / SOURCES)
    act.await_signal(killed, epoch)
    names_it = any(act.stage.feed.table in words for words in said)
    return [] if names_it else [f"no replay's last words name the table: {sorted(said)}"]


def _lose_topic(act: Act) -> list[str]:
    """Whoever deleted the topic makes it again: rows are acknowledged, and go nowhere."""
    epoch, failed = act.stage.state().epoch, False
    delete_topic_and_make_it_again(act.scene.target, act.stage.spec)

    def is_told() -> bool:
        nonlocal failed
        state = act.stage.state()
        failed = failed or state.status is Status.FAILED
        return any(each.lossy for each in state.incidents)

    wait_until(is_told, f"{act.name}: no incident says that rows may be missing")
    act.follow("reconcile", act.begin("reconcile"))
    # One that publishes between the two finds no topic, says so and ends.
    false = act.stage.state().epoch > epoch and not failed
    return ["it was relaunched though its replay lived"] if false else []


def _break_spec(act: Act) -> list[str]:
    """The replay dies while its stream has no DAGs."""
    file, dags = act.stage.spec_file, act.scene.airflow.dag_ids
    text = file.read_text(encoding="utf-8")
    try:
        file.write_text(f"{text}speed: none of a stream's fields\n", encoding="utf-8")
        wait_until(lambda: f"{act.name}.invalid" in dags(), f"{act.name}: nobody says that its spec is wrong")
        act.await_signal(*act.kill())
    finally:
        file.write_text(text, encoding="utf-8")
    wait_until(lambda: f"{act.name}.live" in dags(), f"{act.name}: its DAGs do not come back")
    return []


def _hang_jobs(act: Act) -> list[str]:
    """The replay dies while nobody can say how the streaming jobs are."""
    hangs = act.scene.target.home / HANGS
    hangs.touch()
    try:
        time.sleep(SLOW_SECONDS)
        silence = act.await_signal(*act.kill())
    finally:
        hangs.unlink()
    late = f"it was silent for {silence:.1f} s: {PATIENT_SECONDS:g} s are allowed"
    return [late] if silence > PATIENT_SECONDS else []


ACTS: Final[Mapping[Mishap, Callable[[Act], list[str]]]] = {
    Mishap.RESTART: _restart,
    Mishap.TABLE: _lose_table,
    Mishap.TOPIC: _lose_topic,
    Mishap.SPEC: _break_spec,
    Mishap.JOBS: _hang_jobs,
}


def happen(scene: Scene, truth: Truth, mishaps: Sequence[Mishap], say: Say) -> Iterator[Happened]:
    """Let these mishaps happen, those of a wave at once. What goes wrong is in what came of each."""
    for wave in WAVES:
        chosen = [each for each in wave if each in mishaps]
        if chosen:
            with ThreadPoolExecutor(len(chosen)) as pool:
                yield from pool.map(lambda each: _happen(scene, truth, each, say), chosen)


def _happen(scene: Scene, truth: Truth, mishap: Mishap, say: Say) -> Happened:
    stage = scene.stage(mishap.stream)
    happened = Happened(mishap, time.time())
    try:
        if stage in scene.extras.values():
            if stage.feed.table:
                load_table(scene.target, stage.feed, scene.home / SOURCES)
            scene.go_live([stage], say)
        _await_well(scene, stage)
        happened = replace(happened, begin=time.time())
        epoch = stage.state().epoch
        say(f"{mishap}: {stage.name}")
        broken = ACTS[mishap](Act(scene, stage, say))
        _await_well(scene, stage)
        happened = replace(happened, broken=broken, epochs=stage.state().epoch - epoch)
        _await_record(truth, happened)
        happened = replace(
            happened,
            seconds=round(time.time() - happened.begin, 1),
            incidents=_incidents(truth, happened),
            rows=truth.rows(stage),
        )
    except FAILURES as error:
        return replace(happened, broken=[*happened.broken, f"{type(error).__name__}: {error}"])
    return replace(happened, broken=[*happened.broken, *broken_by(happened)])


def broken_by(happened: Happened) -> list[str]:
    """Which promises were not kept, in words: no row lost or doubled, no false relaunch, every silence told once."""
    mishap, rows = happened.mishap, happened.rows
    wrong = {
        f"its epoch rose by {happened.epochs}, not by {mishap.epochs.start} to {mishap.epochs.stop - 1}": (
            happened.epochs not in mishap.epochs
        ),
        f"{len(happened.incidents)} incidents, not {mishap.incidents}": len(happened.incidents) != mishap.incidents,
        "its rows were not counted": rows is None,
    }
    if rows is not None:
        wrong[words_of(rows)] = rows.wrong > 0
    return [words for words, is_so in wrong.items() if is_so]


def _await_well(scene: Scene, stage: Stage) -> None:
    wait_until(lambda: not stage.ails(scene.jobs()), lambda: "; ".join(stage.ails(scene.jobs())))


def _await_record(truth: Truth, happened: Happened) -> None:
    mishap = happened.mishap
    wait_until(
        lambda: len(_incidents(truth, happened)) >= mishap.incidents,
        f"{mishap.stream}: its silence is not in the table of incidents",
        poll_seconds=1.0,
    )


def _incidents(truth: Truth, happened: Happened) -> list[Incident]:
    return [
        each for each in truth.incidents() if each.stream == happened.mishap.stream and each.resumed_at > happened.begin
    ]


def _is_under_way(act: Act, run_id: str, task_id: str) -> bool:
    tasks = act.scene.airflow.tasks(f"{act.name}.live", run_id)
    return any(each["task_id"] == task_id and each["state"] in ("running", "deferred") for each in tasks)


@contextmanager
def _suspended(pid: int) -> Iterator[None]:
    process = psutil.Process(pid)
    process.suspend()
    try:
        yield
    finally:
        process.resume()
