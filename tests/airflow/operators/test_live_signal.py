"""The tasks that await the signal, and those of `<stream>.stop`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from rejeu.airflow.operators import base
from rejeu.airflow.operators.live import AwaitSignal, DrainStreamJob, HandOverInstant, StartStreamJob, StopReplay
from rejeu.airflow.triggers import ReturnTrigger
from rejeu.errors import LaunchError
from rejeu.jobs.build import replay_request
from rejeu.jobs.request import ReplayRequest
from rejeu.ports import JobState, Signal
from rejeu.spec.model import StreamSpec
from rejeu.state.lease import read_state
from rejeu.state.model import Status
from rejeu.state.stream import announce
from rejeu.target import Target
from rejeu.testing import FakeLauncher, MemoryStore
from rejeu.timeline import MICROSECOND, Position, to_us
from rejeu.watchdog.incidents import OVER
from tests.airflow.builders import (
    LAST_ROW,
    REPLAY_JOB,
    STREAM,
    STREAM_JOB,
    FakeBigQuery,
    a_run,
    ago,
    alive,
    carry_out,
    dead,
    remember,
)

ASSET = Asset(name="crypto_rates.batch", uri="x-rejeu://crypto_rates/batch")

End = Callable[..., Callable[[], None]]


@pytest.fixture
def old_replay(spec: StreamSpec, target: Target, store: MemoryStore, launcher: FakeLauncher) -> ReplayRequest:
    """A replay that was started at the hand-over and publishes."""
    request = replay_request(spec, target, LAST_ROW + MICROSECOND, None)
    launcher.start(request)
    launcher.started.clear()
    remember(store, **alive(request=tuple(request.to_argv())))
    return request


@pytest.fixture
def await_signal(spec: StreamSpec) -> AwaitSignal:
    return AwaitSignal(task_id="await_signal", spec=spec)


def test_the_signal_is_awaited_without_a_slot(await_signal: AwaitSignal) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        await_signal.execute(a_run())
    assert isinstance(deferred.value.trigger, ReturnTrigger)
    assert deferred.value.timeout == timedelta(minutes=10)


def test_a_signal_that_flows_ends_the_wait(
    await_signal: AwaitSignal, spec: StreamSpec, target: Target, store: MemoryStore
) -> None:
    announce(store, replay_request(spec, target, None, None))
    assert carry_out(await_signal, a_run(), lambda: remember(store, **alive()))["signal"] == "FLOWING"


@pytest.mark.parametrize("signal", [signal for signal in Signal if signal not in OVER])
def test_whatever_is_no_signal_fails_the_task_for_good(await_signal: AwaitSignal, signal: Signal) -> None:
    with pytest.raises(AirflowFailException, match="gives no signal: its last words"):
        await_signal.resume(a_run(), {"signal": signal.name, "detail": "its last words"})


def test_a_run_that_the_patrol_called_waits_in_its_worker(await_signal: AwaitSignal, store: MemoryStore) -> None:
    remember(store, **alive())
    context = a_run() | {"dag_run": SimpleNamespace(conf={"seen_by": "rejeu.patrol"})}
    assert await_signal.execute(context)["signal"] == "FLOWING"


def test_a_signal_that_does_not_come_says_the_jobs_last_words(
    await_signal: AwaitSignal, store: MemoryStore, launcher: FakeLauncher, old_replay: ReplayRequest
) -> None:
    def dies() -> None:
        remember(store, **dead(status=Status.FAILED, error="the topic is gone"))
        launcher.end(REPLAY_JOB, JobState.FAILED, "exit code 4")

    with pytest.raises(
        AirflowFailException, match=f"gives no signal: the topic is gone; {REPLAY_JOB} is failed: exit code 4"
    ):
        carry_out(await_signal, a_run(), dies)


def test_where_there_is_no_job_the_state_says_what_it_last_heard(await_signal: AwaitSignal, store: MemoryStore) -> None:
    with pytest.raises(AirflowFailException, match="gives no signal: epoch 3 was last heard of at"):
        carry_out(await_signal, a_run(), lambda: remember(store, **dead()))


@pytest.mark.parametrize(
    "left",
    [
        dead(status=Status.FAILED, holder=None, lease_until=None, next_due=ago(-3600), error="no such table"),
        dead(status=Status.FAILED, holder=None, lease_until=None, next_due=None, ready=False, error="no such table"),
    ],
    ids=["it knew when the next row is due", "it never read its source"],
)
def test_a_replay_that_has_ended_is_no_start_though_no_row_is_due(
    await_signal: AwaitSignal,
    store: MemoryStore,
    launcher: FakeLauncher,
    old_replay: ReplayRequest,
    left: dict[str, Any],
) -> None:
    def dies() -> None:
        remember(store, **left)
        launcher.end(REPLAY_JOB, JobState.FAILED, "exit code 3: no such table")

    with pytest.raises(AirflowFailException, match=f"{REPLAY_JOB} is failed: exit code 3: no such table"):
        carry_out(await_signal, a_run(), dies)


def test_a_replay_that_lives_and_knows_when_the_next_row_is_due_is_a_start(
    await_signal: AwaitSignal, store: MemoryStore
) -> None:
    remember(store, **alive(last_published=None, ready=False))
    found = carry_out(await_signal, a_run(), lambda: remember(store, **alive(last_published=None)))
    assert found["signal"] == "QUIET"


# Stop


def test_a_stop_silences_the_watchdog_before_it_ends_the_replay(
    spec: StreamSpec, store: MemoryStore, launcher: FakeLauncher, old_replay: ReplayRequest
) -> None:
    wanted_at_stop: list[bool] = []
    stop = launcher.stop

    def look(name: str, *, drain: bool = True) -> Any:
        state = read_state(store, STREAM)
        wanted_at_stop.append(state is not None and state.wanted)
        return stop(name, drain=drain)

    launcher.stop = look  # type: ignore[method-assign]
    left = StopReplay(task_id="stop_replay", spec=spec).execute(a_run())
    assert wanted_at_stop == [False, False]
    assert launcher.stopped == [REPLAY_JOB]
    assert left is not None
    assert set(left) == {"status", "cursor", "published"}


def test_a_stop_takes_its_turn_but_silences_the_watchdog_before(
    spec: StreamSpec, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[tuple[str, bool]] = []

    @contextmanager
    def turn(turns: MemoryStore, stream: str, who: str) -> Iterator[None]:
        state = read_state(store, STREAM)
        happened.append((who, state is not None and state.wanted))
        yield

    remember(store, **alive())
    monkeypatch.setattr(base, "hold_launch_lock", turn)
    StopReplay(task_id="stop_replay", spec=spec).execute(a_run())
    assert happened == [("run-1/stop_replay", False)]


def test_what_somebody_else_publishes_is_no_longer_watched_and_nothing_of_theirs_is_ended(
    foreign_spec: StreamSpec, store: MemoryStore, launcher: FakeLauncher
) -> None:
    remember(store)
    left = StopReplay(task_id="stop_replay", spec=foreign_spec).execute(a_run())
    assert left is not None
    state = read_state(store, STREAM)
    assert state is not None
    assert (state.wanted, launcher.stopped) == (False, [])


def test_a_stream_that_never_ran_can_be_stopped(spec: StreamSpec, launcher: FakeLauncher) -> None:
    StopReplay(task_id="stop_replay", spec=spec).execute(a_run())
    assert carry_out(DrainStreamJob(task_id="drain_stream", spec=spec), a_run()) == "there was none"
    assert launcher.stopped == []


def test_the_streaming_job_is_drained(spec: StreamSpec, launcher: FakeLauncher, end: End) -> None:
    carry_out(StartStreamJob(task_id="start_stream", spec=spec), a_run(), end(STREAM_JOB, JobState.RUNNING))
    assert carry_out(DrainStreamJob(task_id="drain_stream", spec=spec), a_run()).startswith("stopped")
    assert launcher.stopped == [STREAM_JOB]


def test_the_streaming_job_of_a_stream_that_is_wanted_again_is_left_alone(
    spec: StreamSpec, store: MemoryStore, launcher: FakeLauncher, end: End
) -> None:
    carry_out(StartStreamJob(task_id="start_stream", spec=spec), a_run(), end(STREAM_JOB, JobState.RUNNING))
    remember(store, wanted=False)
    left = carry_out(
        DrainStreamJob(task_id="drain_stream", spec=spec), a_run(), lambda: remember(store, **alive(wanted=True))
    )
    assert left == "it was left alone: the stream is wanted again"
    assert launcher.jobs[STREAM_JOB].state is JobState.RUNNING


def test_a_job_that_cannot_be_drained_fails_the_task_with_the_launchers_words(
    spec: StreamSpec, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, *, drain: bool = True) -> None:
        raise LaunchError(f"{name} still runs")

    monkeypatch.setattr(launcher, "stop", refuse)
    with pytest.raises(LaunchError, match=f"{STREAM_JOB} still runs"):
        carry_out(DrainStreamJob(task_id="drain_stream", spec=spec), a_run())


def test_a_stopped_streams_cursor_is_what_the_next_run_goes_on_from(
    spec: StreamSpec, store: MemoryStore, bigquery: FakeBigQuery
) -> None:
    remember(store, **alive(cursor=Position(to_us(LAST_ROW + timedelta(hours=1))), last_published=ago(1)))
    StopReplay(task_id="stop_replay", spec=spec).execute(a_run())
    task = HandOverInstant(task_id="hand_over", spec=spec)
    bigquery.rows = [{"last": LAST_ROW}]
    assert task.execute(a_run())["start"] == "resume"
