"""The tasks of `<stream>.watchdog`: look again, fence off, relaunch at the cursor, record the incident."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from rejeu.airflow.operators.watchdog import RecordIncident, RelaunchReplay
from rejeu.errors import LaunchError, LeaseLostError
from rejeu.live import replay_request, silence, standby_request
from rejeu.ports import Job, JobRequest
from rejeu.request import CURSOR, ReplayRequest
from rejeu.spec import StreamSpec
from rejeu.state.lease import Lease, read_state
from rejeu.state.model import Status
from rejeu.target import Target
from rejeu.testing import FakeLauncher, MemoryStore
from rejeu.timeline import parse_instant
from tests.dags.builders import (
    LAST_ROW,
    REPLAY_JOB,
    STREAM,
    FakeBigQuery,
    a_run,
    ago,
    alive,
    dead,
    event_of,
    remember,
    text,
)

SIGNAL = Asset(name="crypto_rates.signal", uri="x-rejeu://crypto_rates/signal")


@pytest.fixture
def relaunch(spec: StreamSpec) -> RelaunchReplay:
    return RelaunchReplay(task_id="relaunch", spec=spec, signal_asset=SIGNAL)


@pytest.fixture
def first_request(spec: StreamSpec, target: Target) -> ReplayRequest:
    """What `live` once asked for, in another way than the spec says by now."""
    return replay_request(spec, target, LAST_ROW, 60.0)


@pytest.fixture
def dead_replay(store: MemoryStore, launcher: FakeLauncher, first_request: ReplayRequest) -> None:
    """A replay that publishes no more, though rows are due; its job may still exist, paused or cut off."""
    launcher.start(first_request)
    launcher.started.clear()
    remember(store, **dead(request=tuple(first_request.to_argv())))


def silent_event(detected_at: str) -> Any:
    return event_of(SIGNAL, {"from_trigger": True, "payload": {"stream": STREAM, "detected_at": detected_at}})


@pytest.mark.usefixtures("dead_replay")
def test_a_dead_replay_is_relaunched_at_its_cursor_with_the_arguments_it_had(
    relaunch: RelaunchReplay, launcher: FakeLauncher, first_request: ReplayRequest
) -> None:
    relaunch.execute(a_run())
    assert launcher.started == [first_request.model_copy(update={"from_": CURSOR})]
    assert launcher.stopped == [REPLAY_JOB]


@pytest.mark.usefixtures("dead_replay")
def test_a_dead_pair_is_relaunched_as_a_pair(
    spec_with: Callable[..., StreamSpec], launcher: FakeLauncher, first_request: ReplayRequest
) -> None:
    launcher.start(standby_request(first_request))
    launcher.started.clear()
    spec = spec_with(replay={"source": {"table": "crypto_band.oracle_requests"}, "standby": True})
    RelaunchReplay(task_id="relaunch", spec=spec, signal_asset=SIGNAL).execute(a_run())
    assert launcher.stopped == [f"{REPLAY_JOB}-standby", REPLAY_JOB]
    resumed = first_request.model_copy(update={"from_": CURSOR})
    assert launcher.started == [resumed, standby_request(resumed)]


def test_the_dead_replay_is_fenced_off_and_its_successor_need_not_wait(
    relaunch: RelaunchReplay, store: MemoryStore, first_request: ReplayRequest
) -> None:
    paused = Lease.acquire(store, STREAM, "host:6", 0.0, request=tuple(first_request.to_argv()))
    remember(store, **dead(epoch=paused.epoch, request=paused.state.request))
    incident = relaunch.execute(a_run())
    assert incident["epoch"] == paused.epoch
    with pytest.raises(LeaseLostError):
        paused.checkpoint()
    assert Lease.acquire(store, STREAM, "host:7", 3.0).epoch > paused.epoch


@pytest.mark.usefixtures("dead_replay")
def test_the_relaunched_stream_is_starting_for_whoever_looks_next(relaunch: RelaunchReplay, store: MemoryStore) -> None:
    relaunch.execute(a_run())
    state = read_state(store, STREAM)
    assert state is not None
    assert (state.status, state.wanted) == (Status.STARTING, True)


@pytest.mark.usefixtures("dead_replay")
def test_a_second_run_for_the_same_silence_relaunches_nothing(relaunch: RelaunchReplay, launcher: FakeLauncher) -> None:
    relaunch.execute(a_run())
    with pytest.raises(AirflowSkipException, match="starting"):
        relaunch.execute(a_run())
    assert len(launcher.started) == 1


@pytest.mark.parametrize(
    ("state", "but", "why"),
    [
        (alive, {}, "flowing"),
        (alive, {"last_published": 60}, "quiet: no row is due"),
        (dead, {"next_due": -60}, "quiet: no row is due"),
        (dead, {"lease_until": -3}, "stalled"),
        (dead, {"wanted": False}, "stopped on request"),
        (dead, {"status": Status.FINISHED}, "finished"),
    ],
    ids=["the signal is back", "nothing is due", "dead, yet nothing is due", "it lives", "stopped", "finished"],
)
def test_nothing_is_relaunched_that_needs_no_repair(
    relaunch: RelaunchReplay,
    store: MemoryStore,
    launcher: FakeLauncher,
    state: Callable[..., dict[str, Any]],
    but: dict[str, Any],
    why: str,
) -> None:
    seconds = {name: ago(value) for name, value in but.items() if type(value) is int}
    before = remember(store, **state(**but | seconds))
    with pytest.raises(AirflowSkipException, match=why):
        relaunch.execute(a_run())
    assert (launcher.started, launcher.stopped) == ([], [])
    assert read_state(store, STREAM) == before


def test_a_stream_that_never_ran_is_not_started(relaunch: RelaunchReplay, launcher: FakeLauncher) -> None:
    with pytest.raises(AirflowSkipException, match="no replay was ever started"):
        relaunch.execute(a_run())
    assert launcher.started == []


def test_a_replay_that_never_took_the_lease_has_nothing_to_repeat(
    relaunch: RelaunchReplay, store: MemoryStore, launcher: FakeLauncher
) -> None:
    remember(store, status=Status.STARTING, status_at=ago(3600))
    with pytest.raises(AirflowSkipException, match=r"run crypto_rates\.live"):
        relaunch.execute(a_run())
    assert launcher.started == []


@pytest.mark.usefixtures("dead_replay")
def test_a_stop_during_the_relaunch_wins(
    relaunch: RelaunchReplay, store: MemoryStore, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = launcher.stop

    def stopped_meanwhile(name: str, *, drain: bool = True) -> Job | None:
        silence(store, STREAM)
        return stop(name, drain=drain)

    monkeypatch.setattr(launcher, "stop", stopped_meanwhile)
    with pytest.raises(AirflowSkipException, match="stopped on request meanwhile"):
        relaunch.execute(a_run())
    assert launcher.started == []
    state = read_state(store, STREAM)
    assert state is not None
    assert not state.wanted


@pytest.mark.usefixtures("dead_replay")
def test_a_relaunch_that_fails_is_seen_as_silence_again_after_its_grace(
    relaunch: RelaunchReplay, store: MemoryStore, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = launcher.start

    def refuse(request: JobRequest) -> Job:
        raise LaunchError("no memory")

    monkeypatch.setattr(launcher, "start", refuse)
    with pytest.raises(LaunchError, match="no memory"):
        relaunch.execute(a_run())
    state = read_state(store, STREAM)
    assert state is not None
    remember(store, **state.model_dump(exclude={"stream", "status_at"}), status_at=ago(31))
    monkeypatch.setattr(launcher, "start", start)
    relaunch.execute(a_run())
    assert len(launcher.started) == 1


# What is known of the incident


@pytest.mark.usefixtures("dead_replay")
def test_the_incident_begins_with_the_first_row_that_did_not_come(relaunch: RelaunchReplay, store: MemoryStore) -> None:
    state = read_state(store, STREAM)
    assert state is not None
    assert state.next_due is not None
    assert relaunch.execute(a_run())["lost_at"] == text(state.next_due)


@pytest.mark.usefixtures("dead_replay")
def test_the_silence_was_detected_when_the_trigger_first_saw_it(relaunch: RelaunchReplay) -> None:
    first, reminder, earlier_silence = text(ago(15)), text(ago(5)), text(ago(300))
    events = [silent_event(instant) for instant in (reminder, first, earlier_silence)]
    assert relaunch.execute(a_run(*events))["detected_at"] == first


@pytest.mark.usefixtures("dead_replay")
def test_a_run_by_hand_detects_the_silence_itself(relaunch: RelaunchReplay) -> None:
    begun = ago(0)
    incident = relaunch.execute(a_run())
    assert begun <= parse_instant(incident["detected_at"]) <= parse_instant(incident["relaunched_at"])


def test_an_incident_is_one_row_that_says_what_was_lost_and_when(
    spec: StreamSpec, store: MemoryStore, bigquery: FakeBigQuery
) -> None:
    incident = {
        "lost_at": "2026-11-20T12:00:00.000000Z",
        "detected_at": "2026-11-20T12:00:05.000000Z",
        "relaunched_at": "2026-11-20T12:00:07.000000Z",
        "cause": "epoch 3 was last heard of",
        "epoch": 3,
    }
    remember(store, **alive(resumed_at=parse_instant("2026-11-20T12:00:09.25Z"), owed=118))
    row = RecordIncident(task_id="record_incident", spec=spec, incident=incident).execute(a_run(run_id="asset-1"))
    assert row == {
        **{name: incident[name] for name in ("lost_at", "detected_at", "relaunched_at", "cause")},
        "stream": STREAM,
        "resumed_at": "2026-11-20T12:00:09.250000Z",
        "gap_seconds": 9.25,
        "rows_owed": 118,
        "rows_lost": 0,
        "probe": "heartbeat",
        "launcher": "process",
        "dag_run_id": "asset-1",
    }
    ((statement, parameters),) = bigquery.asked
    assert "INSERT INTO `rejeu-test.rejeu.incidents`" in statement
    assert set(parameters) == set(row)


def test_an_incident_without_a_row_since_ends_now(spec: StreamSpec, store: MemoryStore, bigquery: FakeBigQuery) -> None:
    remember(store, **alive(resumed_at=None))
    incident = dict.fromkeys(("lost_at", "detected_at", "relaunched_at", "cause"), text(ago(10)))
    row = RecordIncident(task_id="record_incident", spec=spec, incident=incident).execute(a_run())
    assert 10 <= row["gap_seconds"] < 20


def test_silence_counts_as_long_as_the_spec_says(
    spec_with: Callable[..., StreamSpec], store: MemoryStore, launcher: FakeLauncher, first_request: ReplayRequest
) -> None:
    remember(store, **dead(request=tuple(first_request.to_argv())))
    patient = spec_with(watchdog={"silence": "5m"})
    with pytest.raises(AirflowSkipException, match="quiet"):
        RelaunchReplay(task_id="relaunch", spec=patient, signal_asset=SIGNAL).execute(a_run())
    assert launcher.started == []
