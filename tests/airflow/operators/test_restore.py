"""The task `restore` of `<stream>.watchdog`: whoever of a pair is missing stands by again, and the job writes again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from rejeu.airflow.operators import base
from rejeu.airflow.operators.watchdog import Restore
from rejeu.errors import LaunchError
from rejeu.jobs.build import replay_request, standby_request, stream_job_request
from rejeu.jobs.request import CURSOR, ReplayRequest
from rejeu.ports import Job, JobState, Signal
from rejeu.spec.model import StreamSpec
from rejeu.state.standby_marker import mark_standby
from rejeu.state.stream import mark_unwanted
from rejeu.target import Target
from rejeu.testing import FakeLauncher, FakeProbe, MemoryStore
from tests.airflow.builders import REPLAY_JOB, STREAM, STREAM_JOB, a_run, ago, alive, carry_out, dead, remember

TWIN_JOB = f"{REPLAY_JOB}-twin"

End = Callable[..., Callable[[], None]]


@pytest.fixture
def restore(spec_with: Callable[..., StreamSpec]) -> Restore:
    """The task of a stream that wants a standby."""
    spec = spec_with(replay={"source": {"table": "crypto_band.oracle_requests"}, "standby": True})
    return Restore(task_id="restore", spec=spec)


@pytest.fixture
def request_(spec: StreamSpec, target: Target) -> ReplayRequest:
    """What runs, from where it would go on."""
    return replay_request(spec, target, CURSOR, None)


@pytest.fixture(autouse=True)
def streaming_job(spec: StreamSpec, target: Target, launcher: FakeLauncher) -> None:
    """A streaming job that reads."""
    launcher.start(stream_job_request(spec, target))
    launcher.end(STREAM_JOB, JobState.RUNNING)
    launcher.started.clear()


@pytest.fixture
def pair(store: MemoryStore, launcher: FakeLauncher, request_: ReplayRequest) -> None:
    """Two replays, of which one publishes."""
    for request in (request_, standby_request(request_)):
        launcher.start(request)
    launcher.started.clear()
    remember(store, **alive(request=tuple(request_.to_argv())))


def test_where_nothing_lacks_nothing_is_done(
    restore: Restore, store: MemoryStore, launcher: FakeLauncher, pair: None
) -> None:
    mark_standby(store, STREAM, "host:8", ago(-60))
    with pytest.raises(AirflowSkipException, match="nothing is missing"):
        restore.execute(a_run())
    assert (launcher.started, launcher.stopped) == ([], [])


# The one that stands by


def test_a_standby_that_is_gone_is_started_again(
    restore: Restore, launcher: FakeLauncher, pair: None, request_: ReplayRequest
) -> None:
    launcher.end(TWIN_JOB, JobState.FAILED)
    restore.execute(a_run())
    assert launcher.started == [standby_request(request_)]
    assert (launcher.started[0].job_name, launcher.stopped) == (TWIN_JOB, [])


def test_a_standby_that_was_just_started_does_not_lack_though_it_has_not_said_a_word(
    restore: Restore, launcher: FakeLauncher, pair: None
) -> None:
    launcher.end(TWIN_JOB, JobState.FAILED)
    restore.execute(a_run())
    with pytest.raises(AirflowSkipException, match="nothing is missing"):
        restore.execute(a_run())


def test_a_standby_that_was_never_started_is_started(
    restore: Restore, store: MemoryStore, launcher: FakeLauncher, request_: ReplayRequest
) -> None:
    launcher.start(request_)
    remember(store, **alive(request=tuple(request_.to_argv())))
    restore.execute(a_run())
    assert [request.job_name for request in launcher.started] == [REPLAY_JOB, TWIN_JOB]


@pytest.mark.parametrize("ended", [JobState.FAILED, JobState.STOPPED, JobState.SUCCEEDED])
def test_where_the_twin_has_taken_over_the_first_one_stands_by(
    restore: Restore, launcher: FakeLauncher, pair: None, request_: ReplayRequest, ended: JobState
) -> None:
    launcher.end(REPLAY_JOB, ended)
    restore.execute(a_run())
    (started,) = launcher.started
    assert isinstance(started, ReplayRequest)
    assert (started.job_name, started.standby, started.from_) == (REPLAY_JOB, True, None)
    assert started == standby_request(request_, twin=False)


def test_where_both_run_the_one_that_stands_by_is_on_its_way(
    restore: Restore, launcher: FakeLauncher, pair: None
) -> None:
    restore.execute(a_run())
    assert (launcher.started, launcher.stopped) == ([], [])


def test_a_standby_is_restored_by_one_at_a_time(
    restore: Restore, launcher: FakeLauncher, pair: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    @contextmanager
    def turn(store: MemoryStore, stream: str, who: str) -> Iterator[None]:
        happened.append(f"{stream}: {who}")
        yield
        happened.extend(request.job_name for request in launcher.started)

    monkeypatch.setattr(base, "hold_launch_lock", turn)
    launcher.end(TWIN_JOB, JobState.FAILED)
    restore.execute(a_run())
    assert happened == [f"{STREAM}: run-1/restore", TWIN_JOB]


def test_a_stop_while_the_turn_is_waited_for_wins(
    restore: Restore, launcher: FakeLauncher, pair: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def stopped_meanwhile(store: MemoryStore, stream: str, who: str) -> Iterator[None]:
        mark_unwanted(store, stream)
        yield

    monkeypatch.setattr(base, "hold_launch_lock", stopped_meanwhile)
    launcher.end(TWIN_JOB, JobState.FAILED)
    restore.execute(a_run())
    assert launcher.started == []


def test_a_stream_that_wants_no_standby_gets_none(
    spec: StreamSpec, store: MemoryStore, launcher: FakeLauncher, request_: ReplayRequest
) -> None:
    remember(store, **alive(request=tuple(request_.to_argv())))
    with pytest.raises(AirflowSkipException, match="nothing is missing"):
        Restore(task_id="restore", spec=spec).execute(a_run())
    assert launcher.started == []


# The streaming job


@pytest.mark.parametrize("state", [alive, dead])
def test_a_streaming_job_that_is_gone_is_started_and_awaited(
    spec: StreamSpec,
    store: MemoryStore,
    launcher: FakeLauncher,
    end: End,
    made_sure: list[str],
    state: Callable[..., dict[str, object]],
) -> None:
    remember(store, **state())
    launcher.end(STREAM_JOB, JobState.FAILED)
    carry_out(Restore(task_id="restore", spec=spec), a_run(), end(STREAM_JOB, JobState.RUNNING))
    assert ([request.job_name for request in launcher.started], made_sure) == ([STREAM_JOB], [STREAM])


def test_a_streaming_job_that_another_run_has_started_is_not_awaited_twice(
    spec: StreamSpec, store: MemoryStore, launcher: FakeLauncher
) -> None:
    remember(store, **alive())
    launcher.end(STREAM_JOB, JobState.STARTING)
    with pytest.raises(AirflowSkipException, match="nothing is missing"):
        Restore(task_id="restore", spec=spec).execute(a_run())


def test_a_launcher_of_jobs_that_is_away_keeps_no_standby_from_coming_back(
    restore: Restore, launcher: FakeLauncher, pair: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(name: str) -> Job:
        raise LaunchError("503")

    jobs = FakeLauncher()
    monkeypatch.setattr(jobs, "find", away)
    monkeypatch.setattr(base, "job_launcher", lambda target: jobs)
    launcher.end(TWIN_JOB, JobState.FAILED)
    with pytest.raises(LaunchError, match="503"):
        restore.execute(a_run())
    assert [request.job_name for request in launcher.started] == [TWIN_JOB]


def test_a_streaming_job_that_ends_again_fails_the_task(
    spec: StreamSpec, store: MemoryStore, launcher: FakeLauncher, end: End
) -> None:
    remember(store, **alive())
    launcher.end(STREAM_JOB, JobState.FAILED)
    with pytest.raises(LaunchError, match=r"^no such table \(.* is failed, and should be running\)$"):
        carry_out(Restore(task_id="restore", spec=spec), a_run(), end(STREAM_JOB, JobState.FAILED, "no such table"))


def test_the_streaming_job_of_what_somebody_else_publishes_is_ours(
    foreign_spec: StreamSpec, store: MemoryStore, launcher: FakeLauncher, end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(store)
    monkeypatch.setattr("rejeu.watchdog.probes.tap.TapProbe", lambda *_: FakeProbe([Signal.FLOWING]))
    launcher.end(STREAM_JOB, JobState.STOPPED)
    carry_out(Restore(task_id="restore", spec=foreign_spec), a_run(), end(STREAM_JOB, JobState.RUNNING))
    assert [request.job_name for request in launcher.started] == [STREAM_JOB]


def test_both_parts_are_restored_the_standby_first(restore: Restore, launcher: FakeLauncher, pair: None) -> None:
    launcher.end(TWIN_JOB, JobState.FAILED)
    launcher.end(STREAM_JOB, JobState.FAILED)
    with pytest.raises(TaskDeferred):
        restore.execute(a_run())
    assert [request.job_name for request in launcher.started] == [TWIN_JOB, STREAM_JOB]


@pytest.mark.parametrize("unwanted", [{"wanted": False}, None])
def test_nothing_is_restored_of_what_nobody_wants(
    restore: Restore, store: MemoryStore, launcher: FakeLauncher, unwanted: dict[str, object] | None
) -> None:
    if unwanted is not None:
        remember(store, **dead(**unwanted))
    launcher.end(STREAM_JOB, JobState.FAILED)
    with pytest.raises(AirflowSkipException, match="nothing is missing"):
        restore.execute(a_run())
    assert launcher.started == []
