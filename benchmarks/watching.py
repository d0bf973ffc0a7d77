"""The cost of watching a thousand streams in one process, as the triggerer does, and how late it sees silence.

On a gs:// store each stream is read once a lease, five seconds: 12,000 reads a minute for a thousand, which cost half
a US cent (class B operations at $0.0004 per 1,000, https://cloud.google.com/storage/pricing), 7 dollars a day. With
standbys it is twice that, because the standby marker is a document of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import psutil
from rich.table import Table

from benchmarks.measure import spread
from benchmarks.memory import resident
from benchmarks.section import Options, Result, errors, figures_table
from rejeu.jobs.build import replay_request, stream_job_request
from rejeu.launchers.process import ProcessLauncher, Record
from rejeu.ports import Job, Verdict
from rejeu.spec.model import StreamSpec
from rejeu.state import open_store, rhythm
from rejeu.state.model import Status, StreamState
from rejeu.target import Target
from rejeu.timeline import Position, Timeline, to_us
from rejeu.watchdog.probes.heartbeat import HeartbeatProbe

OURS: Final = "trigger"
HANGING: Final = "hanging"
POLL: Final = "poll"
WATCHERS = (OURS, HANGING, POLL)
HANG_SECONDS: Final = 3.0
POLL_SECONDS: Final = 0.5
CHECKPOINT_SECONDS: Final = 1.0
LEASE: Final = timedelta(seconds=rhythm(None, CHECKPOINT_SECONDS).lease_seconds)
BATCHES: Final = 20
"""How many transactions renew all streams: writers of one SQLite file wait for each other, so 1,000 are too many."""
UPSERT: Final = (
    "INSERT INTO document VALUES (?, 1, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body, version = version + 1"
)
PROCESSES: Final = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Scale:
    """How many streams are watched; how long they settle, publish, and may take to be seen silent."""

    streams: int = 1_000
    settled_seconds: float = 3.0
    steady_seconds: float = 30.0
    patience_seconds: float = 20.0


SCALE: Final = Scale()
LEGEND: Final = (
    f"All of them publish, with a checkpoint every {CHECKPOINT_SECONDS:g} s in one SQLite file; then some fall silent "
    "at once. CPU is of one core, while all publish; milliseconds are from the instant at which the silence was too "
    f"long to the event; others are events about streams that were not silent: there must be none. {HANGING}: the "
    f"launcher takes {HANG_SECONDS:g} s for each answer, which must delay nothing. {POLL}: each stream is read every "
    f"{POLL_SECONDS:g} s, as in earlier versions."
)


@dataclass(frozen=True)
class Run:
    """One process that watches: CPU in % of one core and memory while all publish, then what it saw of the silence."""

    watcher: str
    cpu_percent: float
    resident_bytes: int
    bytes_a_stream: int
    threads: int
    silent: int
    seen: int
    others: int
    delay_ms: dict[str, float]


@dataclass(frozen=True)
class Deployment:
    """The streams, and the folder with their state store and the records of their streaming jobs."""

    folder: Path
    scale: Scale

    @property
    def target(self) -> Target:
        return Target(project="rejeu-bench", state=f"sqlite:{self.folder / 'state.db'}", home=self.folder)

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which the triggers find the target."""
        target = self.target
        return {
            "REJEU_PROJECT": target.project,
            "REJEU_STATE": target.state,
            "REJEU_HOME": str(target.home),
            "AIRFLOW_HOME": str(self.folder / "airflow"),
        }

    @property
    def streams(self) -> list[str]:
        return [f"stream_{number:04}" for number in range(self.scale.streams)]

    @property
    def silent(self) -> list[str]:
        """The streams that fall silent: those that one transaction renews."""
        return self.streams[::BATCHES]

    def write_jobs(self, pid: int) -> None:
        """Record this process as the streaming job of every stream, so that none is missing."""
        folder, log = self.folder / "jobs", self.folder / "job.log"
        folder.mkdir()
        born = psutil.Process(pid).create_time()
        for stream in self.streams:
            request = stream_job_request(spec_of(stream), self.target)
            log.write_text(f"{request.ready_text}\n", encoding="utf-8")
            record = Record(
                name=request.job_name,
                id=str(pid),
                keeper=pid,
                started=born,
                log=str(log),
                exit_file=str(folder / "exit"),
                ready_text=request.ready_text,
            )
            (folder / f"{request.job_name}.json").write_text(record.model_dump_json(), encoding="utf-8")


class Hanging(ProcessLauncher):
    """Takes its time for every answer."""

    def find_active(self, names: Collection[str]) -> dict[str, Job]:
        time.sleep(HANG_SECONDS)
        return super().find_active(names)


def watching(options: Options) -> Result:
    """All ways to watch, one after the other, on the same streams."""
    with tempfile.TemporaryDirectory(prefix="rejeu-bench-") as name, errors.status("Watching"):
        deployment = Deployment(Path(name), SCALE)
        with _child_process(_renew, deployment) as (pid, renewer):
            deployment.write_jobs(pid)
            runs = [_run(deployment, watcher, renewer) for watcher in WATCHERS]
    legend = f"Watching {SCALE.streams:,} streams for {SCALE.steady_seconds:g} s. {LEGEND}"
    figures = {"runs": [asdict(run) for run in runs]} | ratios({run.watcher: run for run in runs})
    return Result(table(*runs), legend, figures)


def ratios(runs: Mapping[str, Run]) -> dict[str, float]:
    """What is compared: the CPU of ours with polling's, and how late it is beside a launcher that hangs and one that
    does not.
    """
    made = {}
    if {OURS, POLL} <= runs.keys():
        made["cpu_ratio"] = round(runs[OURS].cpu_percent / runs[POLL].cpu_percent, 2)
    if {OURS, HANGING} <= runs.keys() and runs[OURS].delay_ms and runs[HANGING].delay_ms:
        made["hanging_delay_ratio"] = round(runs[HANGING].delay_ms["max"] / runs[OURS].delay_ms["max"], 2)
    return made


def table(*runs: Run) -> Table:
    """The runs, for a person to read; CPU also as a ratio to the last one's."""
    made = figures_table(1, "", "CPU %", "ratio", "MB", "KB each", "threads", "seen", "p50", "p95", "max", "others")
    for run in runs:
        made.add_row(
            run.watcher,
            f"{run.cpu_percent:.0f}",
            f"{run.cpu_percent / runs[-1].cpu_percent:.2f}",
            f"{run.resident_bytes / 1e6:,.0f}",
            f"{run.bytes_a_stream / 1e3:,.0f}",
            str(run.threads),
            f"{run.seen}/{run.silent}",
            *(f"{each:,.0f}" for each in run.delay_ms.values()),
            str(run.others),
        )
    return made


def spec_of(stream: str) -> StreamSpec:
    """A stream that is watched by its heartbeat."""
    live = {"topic": stream, "table": f"bench.{stream}"}
    replay = {"source": {"table": f"bench.{stream}_raw"}}
    return StreamSpec.model_validate({"stream": stream, "event_time": "at", "live": live, "replay": replay})


def started(stream: str) -> StreamState:
    """The state of a replay that has taken the lease."""
    request = replay_request(spec_of(stream), Target(project="rejeu-bench"), None, None)
    return StreamState(
        stream=stream, epoch=1, holder="bench:1:0", status=Status.RUNNING, request=tuple(request.to_argv())
    )


def renewed(state: StreamState, now: datetime) -> StreamState:
    """A checkpoint of a healthy replay, with a row due before the next one."""
    return state.model_copy(
        update={
            "lease_until": now + LEASE,
            "heartbeat": now,
            "cursor": Position(to_us(now)),
            "timeline": Timeline(to_us(now), to_us(now), 1.0),
            "last_published": now,
            "next_due": now + timedelta(seconds=CHECKPOINT_SECONDS),
            "published": state.published + 1,
        }
    )


def too_long_at(state: StreamState, silence: timedelta) -> datetime:
    """When the lease has run out and rows have been due for longer than allowed."""
    assert state.lease_until is not None
    assert state.next_due is not None
    return max(state.lease_until, state.next_due + silence)


def _run(deployment: Deployment, watcher: str, renewer: Connection) -> Run:
    """Watch while all publish, then while some are silent; afterwards all publish again."""
    with _child_process(_watch, deployment, watcher) as (pid, events):
        before: int = events.recv()
        time.sleep(deployment.scale.settled_seconds)
        process, begun = psutil.Process(pid), time.monotonic()
        spent = sum(process.cpu_times()[:2])
        wrong = _first_events(events, deployment.scale.steady_seconds, deployment.streams).keys()
        percent = (sum(process.cpu_times()[:2]) - spent) / (time.monotonic() - begun) * 100
        size, threads = resident(pid)["VmRSS"], process.num_threads()
        renewer.send(True)
        too_long: float = renewer.recv()
        first_at = _first_events(events, deployment.scale.patience_seconds, deployment.silent)
    renewer.send(False)
    renewer.recv()
    silent = set(deployment.silent)
    delays = np.array([at - too_long for stream, at in first_at.items() if stream in silent])
    return Run(
        watcher=watcher,
        cpu_percent=round(percent, 1),
        resident_bytes=size,
        bytes_a_stream=(size - before) // deployment.scale.streams,
        threads=threads,
        silent=len(silent),
        seen=len(delays),
        others=len(wrong | (first_at.keys() - silent)),
        delay_ms=spread(delays * 1_000, tail=0.95) if len(delays) else {},
    )


def _first_events(events: Connection, seconds: float, awaited: Sequence[str]) -> dict[str, float]:
    """When each stream had its first event, until the time is over or all awaited streams have one."""
    first_at: dict[str, float] = {}
    deadline = time.monotonic() + seconds
    while not first_at.keys() >= set(awaited) and events.poll(max(0.0, deadline - time.monotonic())):
        stream, at = events.recv()
        first_at.setdefault(stream, at)
    return first_at


@contextmanager
def _child_process(work: Callable[..., None], *arguments: Any) -> Iterator[tuple[int, Connection]]:
    """A process that does this work while the block runs: pid and connection. The latter raises EOFError if it ends."""
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=work, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        assert process.pid is not None
        yield process.pid, ours
    finally:
        ours.close()
        process.kill()
        process.join()


def _renew(parent: Connection, deployment: Deployment) -> None:
    """Save checkpoints as the streams' replays would; on request leave out those streams that fall silent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C must reach our parent only, which ends us
    open_store(deployment.target.state)  # makes the file
    states = {stream: started(stream) for stream in deployment.streams}
    batches = [deployment.streams[at::BATCHES] for at in range(BATCHES)]
    silence = spec_of(deployment.streams[0]).watchdog.silence
    silent, next_at = False, time.monotonic()
    with closing(sqlite3.connect(deployment.folder / "state.db", timeout=10.0)) as connection:
        connection.execute("PRAGMA synchronous=NORMAL")
        for batch in cycle(batches):
            if batch is batches[0] and parent.poll():
                silent = parent.recv()
                parent.send(too_long_at(states[batch[0]], silence).timestamp())
            if batch is not batches[0] or not silent:
                now = datetime.now(UTC)
                states |= {stream: renewed(states[stream], now) for stream in batch}
                with connection:
                    connection.executemany(UPSERT, [(stream, states[stream].model_dump_json()) for stream in batch])
            next_at += CHECKPOINT_SECONDS / BATCHES
            time.sleep(max(0.0, next_at - time.monotonic()))


def _watch(events: Connection, deployment: Deployment, watcher: str) -> None:
    """Watch all streams in this process, as a triggerer that has a trigger for each, and pass their events on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(deployment.environment)  # before the import of Airflow, which creates its home
    from rejeu.airflow.triggers import SilenceTrigger, watching

    events.send(resident(os.getpid())["VmRSS"])
    target = deployment.target
    specs = [spec_of(stream) for stream in deployment.streams]
    slow = patch.object(watching, "job_launcher", lambda target: Hanging(deployment.folder / "jobs"))
    with slow if watcher == HANGING else nullcontext():
        if watcher == POLL:
            loops = {spec.stream: _poll(spec, target) for spec in specs}
            asyncio.run(_pass_on(loops, events))
        else:
            triggered = {spec.stream: SilenceTrigger.watching(spec, target).run() for spec in specs}
            asyncio.run(_pass_on(triggered, events))


async def _pass_on(loops: Mapping[str, AsyncIterator[object]], events: Connection) -> None:
    async def listen(stream: str, loop: AsyncIterator[object]) -> None:
        async for _ in loop:
            events.send((stream, time.time()))

    await asyncio.gather(*(listen(stream, loop) for stream, loop in loops.items()))


async def _poll(spec: StreamSpec, target: Target) -> AsyncIterator[Verdict]:
    def look() -> Verdict:
        watchdog = spec.watchdog
        probe = HeartbeatProbe(open_store(target.state), spec.stream, watchdog.silence, watchdog.grace)
        return probe.check(datetime.now(UTC))

    while True:
        verdict = await asyncio.to_thread(look)
        if verdict.signal.needs_relaunch:
            yield verdict
        await asyncio.sleep(POLL_SECONDS)
