"""The task `relaunch` of `<stream>.watchdog`: look again, fence off, relaunch at the cursor, or call a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from rejeu.airflow.operators import base, watchdog
from rejeu.airflow.operators.watchdog import RelaunchReplay
from rejeu.errors import LaunchError, LeaseLostError, RequestError
from rejeu.jobs.build import replay_request, standby_request
from rejeu.jobs.request import CURSOR, ReplayRequest
from rejeu.ports import Job, JobRequest, Signal, Verdict
from rejeu.spec.model import StreamSpec
from rejeu.state import lease_watch
from rejeu.state.launch_lock import LaunchLock, hold_launch_lock
from rejeu.state.lease import Lease, read_state
from rejeu.state.model import Incident, Status, StreamState
from rejeu.state.stream import mark_unwanted
from rejeu.target import Target
from rejeu.testing import FakeLauncher, FakeProbe, MemoryStore
from rejeu.timeline import Position, parse_instant, to_us
from rejeu.watchdog import watch
from tests.airflow.builders import LAST_ROW, REPLAY_JOB, STREAM, a_run, ago, alive, dead, event_of, remember, text

SIGNAL = Asset(name="crypto_rates.signal", uri="x-rejeu://crypto_rates/signal")


class FakeLook(FakeProbe):
    """A watch that sees what it is told."""

    look = FakeProbe.check

    def look_surely(self, watched: frozenset[str]) -> Verdict:
        return self.check(ago(0))


class Waits:
    """What a task waits for a lease, which takes no time here; `meanwhile` happens then."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self.meanwhile: Callable[[], object] | None = None
        patch.setattr(lease_watch, "elapsed", lambda: self.seconds)
        patch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: self.seconds, sleep=self._sleep))

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.meanwhile is not None:
            self.meanwhile()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    return Waits(monkeypatch)


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


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person was told, by its subject."""
    subjects: list[str] = []
    monkeypatch.setattr(watchdog, "notify", lambda context, subject, text, **_: subjects.append(subject))
    return subjects


def silent_event(detected_at: str, **more: str) -> Any:
    return event_of(SIGNAL, {"from_trigger": True, "payload": {"stream": STREAM, "detected_at": detected_at, **more}})


def sees(patch: pytest.MonkeyPatch, verdict: Verdict) -> None:
    """Let whoever looks see this."""
    patch.setattr(RelaunchReplay, "watch", lambda *_: FakeLook([verdict]))


def known(store: MemoryStore) -> StreamState:
    state = read_state(store, STREAM)
    assert state is not None
    return state


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
    assert launcher.stopped == [f"{REPLAY_JOB}-twin", REPLAY_JOB]
    resumed = first_request.model_copy(update={"from_": CURSOR})
    assert launcher.started == [resumed, standby_request(resumed)]


def test_the_dead_replay_is_fenced_off_and_its_successor_need_not_wait(
    relaunch: RelaunchReplay, store: MemoryStore, first_request: ReplayRequest
) -> None:
    paused = Lease.acquire(store, STREAM, "host:6", 0.0, request=tuple(first_request.to_argv()))
    remember(store, **dead(epoch=paused.epoch, request=paused.state.request))
    relaunch.execute(a_run())
    with pytest.raises(LeaseLostError):
        paused.checkpoint()
    assert Lease.acquire(store, STREAM, "host:7", 3.0).epoch > paused.epoch


@pytest.mark.usefixtures("dead_replay")
def test_the_relaunched_stream_is_starting_for_whoever_looks_next(relaunch: RelaunchReplay, store: MemoryStore) -> None:
    relaunch.execute(a_run())
    assert (known(store).status, known(store).wanted) == (Status.STARTING, True)


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
    with pytest.raises(AirflowSkipException, match="unknown"):
        relaunch.execute(a_run())
    assert launcher.started == []


def test_a_replay_that_never_took_the_lease_is_started_as_it_was_asked_for(
    relaunch: RelaunchReplay, store: MemoryStore, launcher: FakeLauncher, first_request: ReplayRequest
) -> None:
    announced = tuple(first_request.to_argv())
    remember(store, status=Status.STARTING, status_at=ago(3600), announced=announced)
    relaunch.execute(a_run())
    assert launcher.started == [first_request]


@pytest.mark.usefixtures("dead_replay")
def test_nobody_else_starts_or_stops_the_streams_replays_meanwhile(
    relaunch: RelaunchReplay, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    @contextmanager
    def turn(store: MemoryStore, stream: str, who: str) -> Iterator[LaunchLock]:
        happened.append(f"{stream}: {who}")
        with hold_launch_lock(store, stream, who) as lock:
            yield lock
        happened.extend([*launcher.stopped, *(request.job_name for request in launcher.started), "given back"])

    monkeypatch.setattr(base, "hold_launch_lock", turn)
    relaunch.execute(a_run())
    assert happened == [f"{STREAM}: run-1/relaunch", REPLAY_JOB, REPLAY_JOB, "given back"]


@pytest.mark.parametrize("status", [Status.FAILED, Status.RUNNING])
def test_however_the_replay_ended_its_topic_is_made_sure_of(
    relaunch: RelaunchReplay,
    store: MemoryStore,
    first_request: ReplayRequest,
    made_sure: list[str],
    status: Status,
) -> None:
    remember(store, **dead(request=tuple(first_request.to_argv()), status=status))
    relaunch.execute(a_run())
    assert made_sure == [STREAM]


@pytest.mark.usefixtures("dead_replay")
def test_a_topic_that_cannot_be_looked_at_keeps_no_replay_from_being_relaunched(
    relaunch: RelaunchReplay, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: base.StreamOperator, context: Any) -> None:
        raise RequestError("Pub/Sub is away")

    monkeypatch.setattr(base.StreamOperator, "ensure_topic", refuse)
    relaunch.execute(a_run())
    assert len(launcher.started) == 1


@pytest.mark.usefixtures("dead_replay")
def test_a_stop_during_the_relaunch_wins(
    relaunch: RelaunchReplay, store: MemoryStore, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = launcher.stop

    def stopped_meanwhile(name: str, *, drain: bool = True) -> Job | None:
        mark_unwanted(store, STREAM)
        return stop(name, drain=drain)

    monkeypatch.setattr(launcher, "stop", stopped_meanwhile)
    with pytest.raises(AirflowSkipException, match="stopped on request meanwhile"):
        relaunch.execute(a_run())
    assert launcher.started == []
    assert not known(store).wanted


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
    state = known(store)
    retried = state.incidents[0].model_copy(update={"retry_at": ago(1)})
    remember(store, **state.model_dump(exclude={"stream"}) | {"status_at": ago(31), "incidents": (retried,)})
    monkeypatch.setattr(launcher, "start", start)
    relaunch.execute(a_run())
    assert len(launcher.started) == 1


# What no relaunch ends


def crash_loop(**fields: Any) -> dict[str, Any]:
    """The state after the last of five relaunches, which failed where the others did."""
    here = Position(to_us(LAST_ROW), 1)
    incident = Incident(
        lost_at=ago(300),
        detected_at=ago(299),
        relaunched_at=ago(60),
        retry_at=ago(30),
        cause="it died",
        probe="heartbeat",
        dag_run_id="run-0",
        cursor=here,
        attempts=5,
    )
    return dead(cursor=here, incidents=(incident,), error="row 8 is too large", **fields)


def test_a_crash_loop_fails_the_run_is_told_and_starts_nothing(
    relaunch: RelaunchReplay,
    store: MemoryStore,
    launcher: FakeLauncher,
    first_request: ReplayRequest,
    told: list[str],
) -> None:
    remember(store, **crash_loop(request=tuple(first_request.to_argv())))
    with pytest.raises(AirflowFailException, match=r"crash loop at 2021-04-30T23:59:58.*: row 8 is too large; mend"):
        relaunch.execute(a_run())
    assert told == [f"{STREAM}: given up, the signal stays away until somebody acts"]
    assert (launcher.started, launcher.stopped) == ([], [])


def test_a_crash_loop_is_told_once(
    relaunch: RelaunchReplay, store: MemoryStore, first_request: ReplayRequest, told: list[str]
) -> None:
    remember(store, **crash_loop(request=tuple(first_request.to_argv())))
    with pytest.raises(AirflowFailException):
        relaunch.execute(a_run())
    with pytest.raises(AirflowSkipException, match="given up"):
        relaunch.execute(a_run(run_id="run-2"))
    assert len(told) == 1


def test_the_spec_says_how_many_relaunches_may_fail(
    spec_with: Callable[..., StreamSpec],
    store: MemoryStore,
    launcher: FakeLauncher,
    first_request: ReplayRequest,
) -> None:
    remember(store, **crash_loop(request=tuple(first_request.to_argv())))
    patient = spec_with(watchdog={"attempts": 6})
    incident = RelaunchReplay(task_id="relaunch", spec=patient, signal_asset=SIGNAL).execute(a_run())
    assert (incident["attempts"], incident["dag_run_id"]) == (6, "run-0")
    assert len(launcher.started) == 1


def test_the_silence_of_somebody_else_is_only_written_down(
    foreign_spec: StreamSpec, store: MemoryStore, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(store)
    lost_at = ago(10)
    sees(monkeypatch, Verdict(Signal.SILENT, lost_at=lost_at, probe="tap", detail="nothing arrived"))
    task = RelaunchReplay(task_id="relaunch", spec=foreign_spec, signal_asset=SIGNAL)
    incident = task.execute(a_run(silent_event(text(ago(5)))))
    assert (incident["probe"], incident["cause"], incident["relaunched_at"]) == ("tap", "nothing arrived", None)
    assert [each.lost_at for each in known(store).incidents] == [lost_at]
    with pytest.raises(AirflowSkipException, match="silent, as is known since"):
        task.execute(a_run(run_id="run-2"))
    assert (launcher.started, launcher.stopped) == ([], [])


def test_what_is_acknowledged_and_does_not_arrive_is_not_relaunched(
    relaunch: RelaunchReplay, store: MemoryStore, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(store, **alive())
    sees(monkeypatch, Verdict(Signal.UNDELIVERED, lost_at=ago(10), probe="heartbeat+tap"))
    assert relaunch.execute(a_run())["probe"] == "heartbeat+tap"
    assert (known(store).epoch, launcher.started, launcher.stopped) == (4, [], [])


# What is known of the incident


@pytest.mark.usefixtures("dead_replay")
def test_the_incident_begins_with_the_first_row_that_did_not_come(relaunch: RelaunchReplay, store: MemoryStore) -> None:
    due = known(store).next_due
    assert due is not None
    assert relaunch.execute(a_run())["lost_at"] == text(due)


@pytest.mark.usefixtures("dead_replay")
def test_a_lease_that_nobody_watched_is_watched_before_its_holder_is_fenced_off(
    relaunch: RelaunchReplay, store: MemoryStore, waits: Waits
) -> None:
    relaunch.execute(a_run())
    assert waits.seconds == pytest.approx(1.0, abs=0.01), "as long as the lease lasts"
    assert known(store).epoch == 4


@pytest.mark.usefixtures("dead_replay")
def test_a_lease_that_the_trigger_watched_is_not_watched_again(
    relaunch: RelaunchReplay, store: MemoryStore, waits: Waits
) -> None:
    relaunch.execute(a_run(silent_event(text(ago(1)), lease=lease_watch.lease_of(known(store)))))
    assert (waits.seconds, known(store).epoch) == (0, 4)


@pytest.mark.usefixtures("dead_replay")
def test_a_try_after_one_that_failed_watches_itself_for_the_store_may_have_held_up_the_replay_too(
    relaunch: RelaunchReplay, store: MemoryStore, waits: Waits, launcher: FakeLauncher
) -> None:
    before = known(store)
    waits.meanwhile = lambda: remember(store, **dead(lease_until=ago(-1), heartbeat=ago(0), request=before.request))
    told = silent_event(text(ago(9)), lease=lease_watch.lease_of(before))
    with pytest.raises(AirflowSkipException, match="nothing to relaunch"):
        relaunch.execute(a_run(told, attempt=2))
    assert (known(store).epoch, launcher.started) == (3, [])


@pytest.mark.usefixtures("dead_replay")
@pytest.mark.parametrize("hears_of_it", [True, False])
def test_a_living_replay_whose_clock_is_behind_is_left_alone(
    relaunch: RelaunchReplay, store: MemoryStore, waits: Waits, launcher: FakeLauncher, hears_of_it: bool
) -> None:
    before = known(store)
    told = [silent_event(text(ago(1)), lease=lease_watch.lease_of(before))] if hears_of_it else []

    def renew() -> None:
        remember(store, **dead(lease_until=ago(19.8), heartbeat=ago(20.8), request=before.request))

    waits.meanwhile = renew
    if hears_of_it:
        renew()
    with pytest.raises(AirflowSkipException, match="flowing: nothing to relaunch"):
        relaunch.execute(a_run(*told))
    assert (known(store).epoch, launcher.started) == (3, [])


@pytest.mark.usefixtures("dead_replay")
def test_the_silence_was_detected_when_the_trigger_first_saw_it(relaunch: RelaunchReplay) -> None:
    first, reminder, earlier_silence = text(ago(15)), text(ago(5)), text(ago(300))
    events = [silent_event(instant) for instant in (reminder, first, earlier_silence)]
    assert relaunch.execute(a_run(*events))["detected_at"] == first


@pytest.mark.usefixtures("dead_replay")
def test_the_silence_was_detected_when_the_patrol_saw_it(relaunch: RelaunchReplay) -> None:
    context = a_run() | {"dag_run": SimpleNamespace(conf={"seen_by": "rejeu.patrol", "detected_at": text(ago(9))})}
    assert relaunch.execute(context)["detected_at"] == context["dag_run"].conf["detected_at"]


@pytest.mark.usefixtures("dead_replay")
def test_the_watch_goes_on_from_what_was_seen_last(relaunch: RelaunchReplay, monkeypatch: pytest.MonkeyPatch) -> None:
    begun_with: list[datetime | None] = []

    def begin(self: RelaunchReplay, last_seen: datetime | None = None) -> FakeLook:
        begun_with.append(last_seen)
        return FakeLook([Verdict(Signal.QUIET)])

    monkeypatch.setattr(RelaunchReplay, "watch", begin)
    events = [silent_event(text(ago(5)), last_seen=text(LAST_ROW - timedelta(seconds=at))) for at in (0, 9)]
    with pytest.raises(AirflowSkipException):
        relaunch.execute(a_run(*events))
    assert begun_with == [LAST_ROW]


@pytest.mark.usefixtures("dead_replay")
def test_a_run_by_hand_detects_the_silence_itself(relaunch: RelaunchReplay) -> None:
    begun = ago(0)
    incident = relaunch.execute(a_run())
    assert begun <= parse_instant(incident["detected_at"]) <= parse_instant(incident["relaunched_at"])


def test_silence_counts_as_long_as_the_spec_says(
    spec_with: Callable[..., StreamSpec], store: MemoryStore, launcher: FakeLauncher, first_request: ReplayRequest
) -> None:
    remember(store, **dead(request=tuple(first_request.to_argv())))
    patient = spec_with(watchdog={"silence": "5m"})
    with pytest.raises(AirflowSkipException, match="quiet"):
        RelaunchReplay(task_id="relaunch", spec=patient, signal_asset=SIGNAL).execute(a_run())
    assert launcher.started == []
