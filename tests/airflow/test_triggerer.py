"""Our triggers in Airflow's own triggerer: as it stores, makes, moves and kills them, in whichever version is here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from typing import Any

import pytest
from airflow.executors.workloads import RunTrigger, TaskInstanceDTO
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.models.trigger import Trigger
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult
from airflow.serialization.encoders import encode_trigger
from airflow.triggers.base import BaseTrigger

from rejeu.airflow.triggers import AwaitedJob, JobTrigger, SilenceTrigger, watching
from rejeu.errors import RejeuError, StateError
from rejeu.jobs.build import stream_job_request
from rejeu.ports import JobState
from rejeu.spec.model import StreamSpec
from rejeu.state.watch_note import blind_watches, read_note
from rejeu.target import Target
from rejeu.testing import FakeLauncher, MemoryStore
from tests.airflow.builders import STREAM, dead, remember
from tests.paths import ROOT

STORED = json.loads((ROOT / "tests/data/stored_triggers.json").read_text())
"""What the database may hold of a trigger, and whether this Rejeu understands it; of some only from an Airflow on."""
AIRFLOW = [int(part) for part in version("apache-airflow-core").split(".")[:2]]
DAG_ID, RUN_ID, TASK_ID = f"{STREAM}.batch", "run-1", "prepare"
ASSET = {f"{STREAM}.signal": f"x-rejeu://{STREAM}/signal"}
LIMIT_SECONDS = 60

Do = Callable[[TriggerRunner], Any]


def stored(path: str, arguments: dict[str, Any], *, task: bool = False) -> RunTrigger:
    """The trigger as the triggerer gets it out of the database; that of an asset, or with a task that waits."""
    encoded = arguments if task else encode_trigger({"classpath": path, "kwargs": arguments})["kwargs"]
    ti = TaskInstanceDTO.model_construct(
        id=uuid.uuid4(), dag_id=DAG_ID, run_id=RUN_ID, task_id=TASK_ID, map_index=-1, try_number=1
    )
    return RunTrigger.model_construct(
        id=1, classpath=path, encrypted_kwargs=Trigger.encrypt_kwargs(encoded), ti=ti if task else None,
        timeout_after=None, type="RunTrigger", dag_data=None, dag_run_data=None, watched_assets=None if task else ASSET,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def triggerer(*workloads: RunTrigger) -> AsyncIterator[TriggerRunner]:
    """Airflow's runner of triggers with these, until the block ends."""
    runner = TriggerRunner()
    runner.to_create.extend(workloads)
    await runner.create_triggers()
    try:
        yield runner
    finally:
        for each in runner.triggers.values():
            each["task"].cancel()
            with contextlib.suppress(asyncio.CancelledError, RejeuError):
                await each["task"]


async def until(done: Callable[[], object]) -> None:
    """Go on when this is so."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not done():
            await asyncio.sleep(0.01)


def payload(runner: TriggerRunner) -> Any:
    """What the first event says; it is a pair in Airflow 3.2."""
    entry = runner.events[0]
    event: Any = entry[1] if isinstance(entry, tuple) else entry.event
    return event.payload


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "UNREADABLE_SECONDS", 0.01)


# The watch


def test_a_silence_is_told_whatever_store_of_asset_state_this_airflow_has(
    spec: StreamSpec, target: Target, store: MemoryStore
) -> None:
    remember(store, **dead())
    workload = stored(*SilenceTrigger.watching(spec, target).serialize())

    async def told() -> tuple[Any, list[Any]]:
        async with triggerer(workload) as runner:
            await until(lambda: runner.events and read_note(store, STREAM))
            return payload(runner), list(runner.failed_triggers)

    event, failed = asyncio.run(told())
    assert (event["signal"], failed) == ("SILENT", [])
    note = read_note(store, STREAM)
    assert note is not None
    assert note.needs[0] == "SILENT"


@pytest.mark.parametrize("sample", STORED, ids=lambda sample: f"{sample['kind']} by {sample['written_by']}")
def test_a_trigger_of_another_release_ends_neither_itself_nor_the_triggerer(
    sample: dict[str, Any],
    store: MemoryStore,
    launcher: FakeLauncher,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rejeu.bigquery.load_jobs.LoadJobSearch.look", lambda self: "job_42")
    remember(store, **dead())
    is_watch = sample["kind"] == "SilenceTrigger"
    workload = stored(f"rejeu.airflow.triggers.{sample['kind']}", sample["stored"], task=not is_watch)

    async def fate() -> bool:
        async with triggerer(workload) as runner:
            (trigger,) = runner.triggers.values()
            blind = "so no silence is seen"
            await until(lambda: runner.events or trigger["task"].done() or blind in caplog.text)
            assert not runner.failed_triggers
            assert runner.events or not trigger["task"].done()
            return bool(runner.events)

    assert asyncio.run(fate()) is (sample["understood"] and sample.get("airflow", []) <= AIRFLOW)


def test_a_watch_that_cannot_look_leaves_word_for_the_patrol_until_it_can(
    silent: tuple[StreamSpec, Target], store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = stored(*SilenceTrigger.watching(*silent).serialize())
    look = watching.Watch.look

    def broken(*_: object) -> Any:
        raise StateError("the disk is full")

    def words() -> list[str]:
        return [*blind_watches(store, store.names())]

    async def seen() -> list[str]:
        monkeypatch.setattr(watching.Watch, "look", broken)
        async with triggerer(workload) as runner:
            await until(words)
            blind = words()
            monkeypatch.setattr(watching.Watch, "look", look)
            await until(lambda: runner.events and not words())
        return blind

    (blind,) = asyncio.run(seen())
    assert blind.startswith(f"{STREAM}: the watch in the triggerer sees no silence since ")
    assert blind.endswith("StateError: the disk is full")


@pytest.fixture
def silent(spec_with: Callable[..., StreamSpec], target: Target, store: MemoryStore) -> tuple[StreamSpec, Target]:
    """A stream that is silent, and the target it is watched in, looked at often."""
    remember(store, **dead())
    return spec_with(watchdog={"silence": "2s"}), target


# A kill, and what only looks like one


class Supervisor:
    """What the triggerer's supervisor answers: the state of the one task."""

    def __init__(self, state: str | Exception | None) -> None:
        self.state = state

    def send(self, message: Any) -> TaskStatesResult:
        assert isinstance(message, GetTaskStates)
        assert (message.dag_id, message.run_ids, message.task_ids) == (DAG_ID, [RUN_ID], [TASK_ID])
        if isinstance(self.state, Exception):
            raise self.state
        return TaskStatesResult(task_states={RUN_ID: {TASK_ID: self.state}} if self.state else {})


@pytest.fixture
def task_is(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | Exception | None], None]:
    def put(state: str | Exception | None) -> None:
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(state), raising=False)

    return put


def job_after_a_kill(spec: StreamSpec, target: Target, launcher: FakeLauncher, awaited: JobState) -> list[str]:
    """The jobs that were stopped once the triggerer was told to end the trigger that waits for this one."""
    job = launcher.start(stream_job_request(spec, target))
    launcher.end(job.name, JobState.STARTING)
    trigger = JobTrigger.of(AwaitedJob(name=job.name, awaited=awaited))
    looked: list[str] = []
    find = launcher.find
    launcher.find = lambda name: looked.append(name) or find(name)  # type: ignore[func-returns-value, method-assign]

    async def kill() -> None:
        async with triggerer(stored(*trigger.serialize(), task=True)) as runner:
            (details,) = runner.triggers.values()
            await until(lambda: looked)
            runner.to_cancel.append(1)
            await runner.cancel_triggers()
            await until(details["task"].done)

    asyncio.run(kill())
    return launcher.stopped


IS_TOLD = hasattr(BaseTrigger, "on_kill")
"""Airflow 3.2 tells no trigger of a kill: the job goes on there, and the next try finds it."""


@pytest.mark.parametrize("state", ["failed", "success", "skipped", None])
def test_a_job_that_ends_by_itself_is_stopped_with_the_task_that_a_person_kills(
    spec: StreamSpec, target: Target, launcher: FakeLauncher, task_is: Callable[[Any], None], state: str | None
) -> None:
    task_is(state)
    stopped = job_after_a_kill(spec, target, launcher, JobState.SUCCEEDED)
    assert stopped == ([stream_job_request(spec, target).job_name] if IS_TOLD else [])


def test_a_job_goes_on_when_its_trigger_moves_to_another_triggerer(
    spec: StreamSpec, target: Target, launcher: FakeLauncher, task_is: Callable[[Any], None]
) -> None:
    task_is("deferred")
    assert job_after_a_kill(spec, target, launcher, JobState.SUCCEEDED) == []


def test_a_job_goes_on_where_nobody_knows_whether_its_task_was_killed(
    spec: StreamSpec, target: Target, launcher: FakeLauncher, task_is: Callable[[Any], None]
) -> None:
    task_is(RuntimeError("the supervisor is gone"))
    assert job_after_a_kill(spec, target, launcher, JobState.SUCCEEDED) == []


def test_a_streaming_job_is_never_stopped_with_a_task(
    spec: StreamSpec, target: Target, launcher: FakeLauncher, task_is: Callable[[Any], None]
) -> None:
    task_is("failed")
    assert job_after_a_kill(spec, target, launcher, JobState.RUNNING) == []
