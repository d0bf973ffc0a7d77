"""Streams that aggregate are stopped and started again so that no window is counted in two halves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from docs.generate.dags import STREAMS
from rejeu.airflow.operators.live import DrainStreamJob, StartReplay
from rejeu.jobs.request import CURSOR
from rejeu.spec.files import read_spec
from rejeu.spec.model import StreamSpec
from rejeu.state.lease import read_state
from rejeu.state.model import Status, StreamState
from rejeu.state.stream import rewind
from rejeu.testing import FakeLauncher, MemoryStore
from rejeu.timeline import Position, parse_instant, to_us
from tests.airflow.builders import a_run

CURSOR_AT = parse_instant("2021-05-01T10:00:47.25Z")
WINDOW_START = parse_instant("2021-05-01T10:00:00Z")


@pytest.fixture
def spec() -> StreamSpec:
    """Clicks in windows of a minute."""
    return read_spec(STREAMS / "clickstream.yaml")


def stands(store: MemoryStore, spec: StreamSpec, **fields: Any) -> None:
    """The stream was stopped with its cursor in the middle of a minute."""
    cursor = Position(to_us(CURSOR_AT), 3)
    state = StreamState(stream=spec.stream, **{"cursor": cursor, "status": Status.STOPPED} | fields)
    store.save(spec.stream, state.model_dump(mode="json"), None)


def cursor_of(store: MemoryStore, spec: StreamSpec) -> Position | None:
    state = read_state(store, spec.stream)
    return None if state is None else state.cursor


def resumed(spec: StreamSpec) -> StartReplay:
    """The task that goes on at the cursor."""
    decision = {"start": "resume", "at": None, "reason": "goes on at the cursor"}
    return StartReplay(task_id="start_replay", spec=spec, decision=decision)


def test_a_stream_goes_on_at_the_start_of_the_window_that_it_stopped_in(
    spec: StreamSpec, store: MemoryStore, launcher: FakeLauncher
) -> None:
    stands(store, spec)
    resumed(spec).execute(a_run())
    assert cursor_of(store, spec) == Position(to_us(WINDOW_START))
    (request,) = launcher.started
    assert request.from_ == CURSOR  # type: ignore[attr-defined]


def test_it_never_goes_back_beyond_where_it_began(spec: StreamSpec, store: MemoryStore) -> None:
    began = Position(to_us(WINDOW_START + timedelta(seconds=20)))
    stands(store, spec, since=began)
    rewind(store, spec)
    assert cursor_of(store, spec) == began


def test_where_there_is_no_cursor_none_is_made(spec: StreamSpec, store: MemoryStore) -> None:
    stands(store, spec, cursor=None)
    rewind(store, spec)
    assert cursor_of(store, spec) is None


def test_a_stream_that_writes_row_by_row_goes_on_where_it_stopped(store: MemoryStore) -> None:
    rates = read_spec(STREAMS / "crypto_rates.yaml")
    stands(store, rates)
    resumed(rates).execute(a_run())
    assert cursor_of(store, rates) == Position(to_us(CURSOR_AT), 3)


def test_the_streaming_job_has_time_to_read_the_last_messages_before_it_is_drained(spec: StreamSpec) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        DrainStreamJob(task_id="drain_stream", spec=spec).execute(a_run())
    assert deferred.value.trigger.arguments.after_seconds == 30  # type: ignore[attr-defined]
    assert deferred.value.timeout == timedelta(minutes=30, seconds=30)


def test_one_that_writes_row_by_row_is_drained_at_once() -> None:
    rates = read_spec(STREAMS / "crypto_rates.yaml")
    with pytest.raises(TaskDeferred) as deferred:
        DrainStreamJob(task_id="drain_stream", spec=rates).execute(a_run())
    assert deferred.value.trigger.arguments.after_seconds == 0  # type: ignore[attr-defined]
