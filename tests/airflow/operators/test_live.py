"""The tasks of `<stream>.live` up to the start: hand over, streaming job, replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import TaskDeferred

from rejeu.airflow.operators import base
from rejeu.airflow.operators.live import BeginWatch, HandOverInstant, StartReplay, StartStreamJob
from rejeu.airflow.triggers import DrainTrigger, JobTrigger
from rejeu.errors import LaunchError, RequestError
from rejeu.jobs.build import replay_request, standby_request
from rejeu.jobs.request import CURSOR, ReplayRequest
from rejeu.ports import JobState
from rejeu.spec.model import StreamSpec
from rejeu.state.documents import SideDocument
from rejeu.state.launch_lock import LaunchLock, hold_launch_lock
from rejeu.state.lease import read_state
from rejeu.state.live_record import remember_live
from rejeu.state.model import Status
from rejeu.state.standby_marker import stands_by
from rejeu.state.stream import announce
from rejeu.target import Target
from rejeu.testing import FakeLauncher, MemoryStore
from rejeu.testing.launchers import SmallJob
from rejeu.timeline import MICROSECOND, Position, parse_instant, to_us
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
    event_of,
    fired,
    remember,
    revive,
    text,
)
from tests.spec.builders import spec_of

ASSET = Asset(name="crypto_rates.batch", uri="x-rejeu://crypto_rates/batch")
BY_HAND = parse_instant("2021-01-01T00:00:00Z")

End = Callable[..., Callable[[], None]]


def batch_event(table_max: str) -> Any:
    return event_of(ASSET, {"partition": "2021-04-30", "table_max_timestamp": table_max})


@pytest.fixture
def hand_over(spec: StreamSpec, bigquery: FakeBigQuery) -> HandOverInstant:
    bigquery.rows = [{"last": LAST_ROW}]
    return HandOverInstant(task_id="hand_over", spec=spec)


@pytest.fixture
def start(spec: StreamSpec) -> Callable[..., StartReplay]:
    """The task `start_replay`, given what `hand_over` decided."""

    def build(how: str, at: str | None = None) -> StartReplay:
        return StartReplay(task_id="start_replay", spec=spec, decision={"start": how, "at": at, "reason": "a test"})

    return build


@pytest.fixture
def old_replay(spec: StreamSpec, target: Target, store: MemoryStore, launcher: FakeLauncher) -> ReplayRequest:
    """A replay that was started at the hand-over and publishes."""
    request = replay_request(spec, target, LAST_ROW + MICROSECOND, None)
    launcher.start(request)
    launcher.started.clear()
    remember(store, **alive(request=tuple(request.to_argv())))
    return request


def with_standby(spec_with: Callable[..., StreamSpec]) -> StreamSpec:
    return spec_with(replay={"source": {"table": "crypto_band.oracle_requests"}, "standby": True})


# The hand-over


def test_the_batch_table_says_where_the_batch_ends(hand_over: HandOverInstant) -> None:
    decision = hand_over.execute(a_run(batch_event(text(LAST_ROW))))
    assert (decision["start"], decision["at"]) == ("at", "2021-04-30T23:59:58.500001Z")


def test_an_event_that_is_older_than_the_table_is_not_believed(
    hand_over: HandOverInstant, bigquery: FakeBigQuery
) -> None:
    newest = LAST_ROW + timedelta(days=2)
    bigquery.rows = [{"last": newest}]
    assert hand_over.execute(a_run(batch_event(text(LAST_ROW))))["at"] == text(newest + MICROSECOND)


def test_a_run_by_hand_takes_the_tables_word(hand_over: HandOverInstant, bigquery: FakeBigQuery) -> None:
    bigquery.rows = [{"last": LAST_ROW}]
    assert hand_over.execute(a_run())["at"] == text(LAST_ROW + MICROSECOND)
    assert "temp_crypto_batch.batch_timestamp" in bigquery.asked[0][0]


def test_an_event_that_somebody_made_by_hand_says_nothing_so_the_table_does(
    hand_over: HandOverInstant, bigquery: FakeBigQuery
) -> None:
    bigquery.rows = [{"last": LAST_ROW}]
    assert hand_over.execute(a_run(event_of(ASSET, {})))["at"] == text(LAST_ROW + MICROSECOND)


def test_an_empty_batch_table_starts_at_the_sources_first_row(
    hand_over: HandOverInstant, bigquery: FakeBigQuery
) -> None:
    bigquery.rows = [{"last": None}]
    decision = hand_over.execute(a_run())
    assert (decision["start"], decision["at"]) == ("first row", None)


def test_a_stream_without_a_batch_asks_no_table(spec_with: Callable[..., StreamSpec], bigquery: FakeBigQuery) -> None:
    task = HandOverInstant(task_id="hand_over", spec=spec_with(batch=None))
    assert task.execute(a_run())["start"] == "first row"
    assert bigquery.asked == []


def test_the_forms_start_and_rule_win(hand_over: HandOverInstant) -> None:
    event = batch_event(text(LAST_ROW))
    assert hand_over.execute(a_run(event, params={"from": "2021-01-01T01:00:00+01:00"}))["at"] == text(BY_HAND)
    next_minute = hand_over.execute(a_run(event, params={"hand_over": "next_minute"}))
    assert next_minute["at"] == "2021-05-01T00:00:00.000000Z"


def test_a_living_replay_is_adopted_and_a_cursor_gone_on_from(hand_over: HandOverInstant, store: MemoryStore) -> None:
    beyond = Position(to_us(LAST_ROW + timedelta(hours=1)))
    remember(store, **alive(cursor=beyond))
    assert hand_over.execute(a_run(batch_event(text(LAST_ROW))))["start"] == "adopt"
    remember(store, **dead(cursor=beyond))
    assert hand_over.execute(a_run(batch_event(text(LAST_ROW))))["start"] == "resume"


# The streaming job


def test_the_streaming_job_is_awaited_until_it_reads(spec: StreamSpec, launcher: FakeLauncher, end: End) -> None:
    carry_out(StartStreamJob(task_id="start_stream", spec=spec), a_run(), end(STREAM_JOB, JobState.RUNNING))
    assert [request.job_name for request in launcher.started] == [STREAM_JOB]


def test_a_streaming_job_that_runs_is_adopted_at_once(spec: StreamSpec, launcher: FakeLauncher, end: End) -> None:
    task = StartStreamJob(task_id="start_stream", spec=spec)
    carry_out(task, a_run(), end(STREAM_JOB, JobState.RUNNING))
    task.execute(a_run(run_id="run-2"))
    assert len(launcher.started) == 1


def test_a_streaming_job_that_drains_is_awaited_and_then_started_afresh(
    spec: StreamSpec, launcher: FakeLauncher, end: End
) -> None:
    task = StartStreamJob(task_id="start_stream", spec=spec)
    carry_out(task, a_run(), end(STREAM_JOB, JobState.RUNNING))
    launcher.end(STREAM_JOB, JobState.DRAINING)
    with pytest.raises(TaskDeferred) as drains:
        task.execute(a_run(run_id="run-2"))
    assert isinstance(drains.value.trigger, DrainTrigger)
    event = fired(revive(drains.value.trigger))
    assert len(launcher.started) == 1
    with pytest.raises(TaskDeferred) as starts:
        task.resume_execution(drains.value.method_name, {"event": event}, a_run(run_id="run-2"))
    assert isinstance(starts.value.trigger, JobTrigger)
    assert len(launcher.started) == 2


def test_a_streaming_job_whose_drain_does_not_end_fails_the_task(spec: StreamSpec) -> None:
    with pytest.raises(LaunchError, match="it still runs"):
        StartStreamJob(task_id="start_stream", spec=spec).start_afresh(a_run(), {"error": "it still runs"})


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.STOPPED, JobState.SUCCEEDED])
def test_a_streaming_job_that_ends_instead_of_running_fails_the_task(
    spec: StreamSpec, end: End, state: JobState
) -> None:
    with pytest.raises(LaunchError, match=rf"^no such subscription \(.* is {state}, and should be running\)$"):
        carry_out(
            StartStreamJob(task_id="start_stream", spec=spec),
            a_run(),
            end(STREAM_JOB, state, "no such subscription"),
        )


# The replay


def test_a_replay_that_somebody_else_stops_just_now_is_awaited_not_adopted(
    start: Callable[..., StartReplay], launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start("at", "2021-04-30T23:59:58.500001Z")
    # A person at a terminal begins to stop it once we have made sure that none runs.
    monkeypatch.setattr(first, "stop_replays", lambda request: launcher.end(REPLAY_JOB, JobState.DRAINING))
    launcher.start(SmallJob((), REPLAY_JOB))
    first.execute(a_run())
    assert (len(launcher.started), launcher.jobs[REPLAY_JOB].state) == (2, JobState.RUNNING)
    assert launcher.stopped == [REPLAY_JOB]


def test_the_replay_starts_at_the_hand_over(
    start: Callable[..., StartReplay], launcher: FakeLauncher, store: MemoryStore
) -> None:
    start("at", "2021-04-30T23:59:58.500001Z").execute(a_run())
    (request,) = launcher.started
    assert isinstance(request, ReplayRequest)
    assert request.from_ == LAST_ROW + MICROSECOND
    state = read_state(store, STREAM)
    assert state is not None
    assert (state.wanted, state.status) == (True, Status.STARTING)


def test_a_stream_with_a_standby_has_two_replays_and_a_start_ends_both_old_ones_first(
    spec_with: Callable[..., StreamSpec], store: MemoryStore, launcher: FakeLauncher, old_replay: ReplayRequest
) -> None:
    spec = with_standby(spec_with)
    launcher.start(standby_request(old_replay))
    launcher.started.clear()
    decision = {"start": "at", "at": "2021-05-02T00:00:00Z", "reason": "a test"}
    StartReplay(task_id="start_replay", spec=spec, decision=decision).execute(a_run())
    assert launcher.stopped == [f"{REPLAY_JOB}-twin", REPLAY_JOB]
    first, second = launcher.started
    assert isinstance(first, ReplayRequest)
    assert isinstance(second, ReplayRequest)
    assert (first.job_name, first.standby) == (REPLAY_JOB, False)
    assert (second.job_name, second.standby, second.from_) == (f"{REPLAY_JOB}-twin", True, None)
    assert stands_by(store, STREAM, ago(-25)), "it has the grace to come and say so itself"


def test_whoever_ends_the_task_ends_what_it_started(start: Callable[..., StartReplay], launcher: FakeLauncher) -> None:
    task = start("first row")
    task.execute(a_run())
    task.on_kill()
    assert launcher.stopped == [REPLAY_JOB]


def test_a_task_that_started_nothing_ends_nothing(
    start: Callable[..., StartReplay], launcher: FakeLauncher, old_replay: ReplayRequest
) -> None:
    task = start("adopt")
    task.execute(a_run())
    task.on_kill()
    assert launcher.stopped == []


@pytest.mark.parametrize(("how", "place"), [("resume", CURSOR), ("first row", None)])
def test_the_replay_goes_on_at_the_cursor_or_starts_at_the_first_row(
    start: Callable[..., StartReplay], launcher: FakeLauncher, how: str, place: str | None
) -> None:
    start(how).execute(a_run())
    (request,) = launcher.started
    assert isinstance(request, ReplayRequest)
    assert request.from_ == place


@pytest.mark.parametrize(("given", "speed"), [(None, 1), (60, 60), ("2.5", 2.5), ("max", "max")])
def test_the_replay_has_the_speed_of_the_form(
    start: Callable[..., StartReplay], launcher: FakeLauncher, given: Any, speed: float | str
) -> None:
    start("first row").execute(a_run(params={"speed": given}))
    (request,) = launcher.started
    assert isinstance(request, ReplayRequest)
    assert request.speed == speed


def test_a_wrong_speed_touches_no_job(
    start: Callable[..., StartReplay], old_replay: ReplayRequest, launcher: FakeLauncher
) -> None:
    with pytest.raises(RequestError, match="it is fast: it must be a number from"):
        start("at", text(BY_HAND)).execute(a_run(params={"speed": "fast"}))
    assert (launcher.started, launcher.stopped) == ([], [])


def test_an_adopted_replay_is_left_alone(
    start: Callable[..., StartReplay], old_replay: ReplayRequest, launcher: FakeLauncher
) -> None:
    start("adopt").execute(a_run(params={"speed": "max"}))
    assert (launcher.started, launcher.stopped) == ([], [])


def test_a_start_by_hand_ends_the_living_replay_first(
    start: Callable[..., StartReplay], old_replay: ReplayRequest, launcher: FakeLauncher
) -> None:
    start("at", text(BY_HAND)).execute(a_run())
    assert launcher.stopped == [REPLAY_JOB]
    (request,) = launcher.started
    assert isinstance(request, ReplayRequest)
    assert request.from_ == BY_HAND


def test_a_retry_adopts_what_its_first_try_started(
    start: Callable[..., StartReplay], old_replay: ReplayRequest, launcher: FakeLauncher
) -> None:
    start("at", text(LAST_ROW + MICROSECOND)).execute(a_run(attempt=2))
    assert (launcher.started, launcher.stopped) == ([], [])


def test_a_retry_adopts_a_replay_that_goes_on_at_the_cursor(
    start: Callable[..., StartReplay], old_replay: ReplayRequest, launcher: FakeLauncher
) -> None:
    start("resume").execute(a_run(attempt=2))
    assert (launcher.started, launcher.stopped) == ([], [])


def test_a_retry_does_not_take_the_replay_it_should_replace_for_its_own(
    start: Callable[..., StartReplay], old_replay: ReplayRequest, launcher: FakeLauncher
) -> None:
    start("at", text(BY_HAND)).execute(a_run(attempt=2))
    assert launcher.stopped == [REPLAY_JOB]
    assert len(launcher.started) == 1


def test_a_start_by_hand_is_not_lost_to_a_relaunch_that_comes_between(
    start: Callable[..., StartReplay],
    spec: StreamSpec,
    target: Target,
    old_replay: ReplayRequest,
    launcher: FakeLauncher,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relaunch = replay_request(spec, target, CURSOR, None)

    def stop_and_let_another_start(name: str, *, drain: bool = True) -> None:
        FakeLauncher.stop(launcher, name, drain=drain)
        launcher.start(relaunch)

    with monkeypatch.context() as slow:
        slow.setattr(launcher, "stop", stop_and_let_another_start)
        with pytest.raises(LaunchError, match=f"{REPLAY_JOB} runs already, with another --from than is wanted now: .*"):
            start("at", text(BY_HAND)).execute(a_run())
    start("at", text(BY_HAND)).execute(a_run(attempt=2))
    assert launcher.jobs[REPLAY_JOB].argv == tuple(replay_request(spec, target, BY_HAND, None).to_argv())


def test_nothing_is_started_once_another_one_had_the_lock(
    start: Callable[..., StartReplay],
    old_replay: ReplayRequest,
    launcher: FakeLauncher,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lock = SideDocument.LAUNCH_LOCK.of(STREAM)

    def stop_for_long(name: str, *, drain: bool = True) -> None:
        found = store.load(lock)
        assert found is not None
        store.save(lock, {"who": "run-2/relaunch", "until": text(ago(-60))}, found.version)

    monkeypatch.setattr(launcher, "stop", stop_for_long)
    before = read_state(store, STREAM)
    with pytest.raises(LaunchError, match="no longer holds the launch lock"):
        start("at", text(BY_HAND)).execute(a_run())
    assert (launcher.started, read_state(store, STREAM)) == ([], before)


def test_a_retry_starts_again_what_has_ended_meanwhile(
    start: Callable[..., StartReplay], old_replay: ReplayRequest, launcher: FakeLauncher
) -> None:
    launcher.end(REPLAY_JOB, JobState.FAILED)
    start("at", text(LAST_ROW + MICROSECOND)).execute(a_run(attempt=2))
    assert len(launcher.started) == 1


def test_a_start_is_made_by_one_at_a_time(
    start: Callable[..., StartReplay],
    launcher: FakeLauncher,
    old_replay: ReplayRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []

    @contextmanager
    def turn(store: MemoryStore, stream: str, who: str) -> Iterator[LaunchLock]:
        happened.append(f"{stream}: {who}")
        with hold_launch_lock(store, stream, who) as lock:
            yield lock
        happened.extend([*launcher.stopped, *(request.job_name for request in launcher.started)])

    monkeypatch.setattr(base, "hold_launch_lock", turn)
    start("first row").execute(a_run())
    assert happened == [f"{STREAM}: run-1/start_replay", REPLAY_JOB, REPLAY_JOB]


# What somebody else publishes


def test_of_two_streams_that_passed_the_checks_at_once_the_later_starts_nothing(
    start: Callable[..., StartReplay], spec: StreamSpec, store: MemoryStore, launcher: FakeLauncher, target: Target
) -> None:
    other = StreamSpec.model_validate(spec_of("bikes", live__topic=spec.live.topic))
    remember_live(store, other, target)
    announce(store, replay_request(other, target, None, None))
    with pytest.raises(RequestError, match=r"of the stream bikes, which is wanted"):
        start("first row").execute(a_run())
    assert launcher.started == []
    state = read_state(store, STREAM)
    assert state is not None
    assert not state.wanted


def test_of_two_streams_that_others_publish_the_later_is_not_wanted(
    foreign_spec: StreamSpec, store: MemoryStore, target: Target
) -> None:
    other = StreamSpec.model_validate(spec_of("bikes", live__table=foreign_spec.live.table))
    remember_live(store, other, target)
    announce(store, replay_request(other, target, None, None))
    with pytest.raises(RequestError, match=r"of the stream bikes, which is wanted"):
        BeginWatch(task_id="watch", spec=foreign_spec).execute(a_run())
    state = read_state(store, foreign_spec.stream)
    assert state is not None
    assert not state.wanted


def test_what_somebody_else_publishes_is_wanted_from_now_on(foreign_spec: StreamSpec, store: MemoryStore) -> None:
    remember(store, wanted=False)
    BeginWatch(task_id="begin_watch", spec=foreign_spec).execute(a_run())
    state = read_state(store, STREAM)
    assert state is not None
    assert state.wanted


def test_its_streaming_job_is_started_as_any_other(foreign_spec: StreamSpec, launcher: FakeLauncher, end: End) -> None:
    task = StartStreamJob(task_id="start_stream", spec=foreign_spec)
    carry_out(task, a_run(), end(STREAM_JOB, JobState.RUNNING))
    assert [request.job_name for request in launcher.started] == [STREAM_JOB]
