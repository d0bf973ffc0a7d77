"""The heartbeat probe: silence counts only while rows are due, and only once nobody holds the lease or is to come."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rejeu.ports import Missing, Reason, Signal, Verdict
from rejeu.state.model import Incident, Status, StreamState
from rejeu.state.standby_marker import mark_standby
from rejeu.testing import MemoryStore
from rejeu.timeline import Position, parse_instant
from rejeu.watchdog.probes.heartbeat import HeartbeatProbe

NOW = parse_instant("2026-11-20T12:00:00Z")
SILENCE, GRACE, TAKEOVER = timedelta(seconds=5), timedelta(seconds=30), timedelta(seconds=2)
SECOND, TICK = timedelta(seconds=1), timedelta(microseconds=1)

ALIVE = {"holder": "host:7", "lease_until": NOW + SECOND}
LAPSED = {"holder": "host:7", "lease_until": NOW}
RELEASED: dict[str, Any] = {"holder": None, "lease_until": None}
OVERDUE, DUE_LATER = {"next_due": NOW - SILENCE}, {"next_due": NOW + SECOND}
NOT_READY = {"ready": False}
BARELY_DUE = {"next_due": NOW - SILENCE + TICK}
ANNOUNCED = {"announced": ("--topic=t",), "status": Status.STARTING}
HERE, FURTHER = Position(7, 1), Position(8, 1)


def _state(**fields: Any) -> StreamState:
    running: dict[str, Any] = {"status": Status.RUNNING, "status_at": NOW - GRACE}
    return StreamState(stream="clicks", epoch=4, **running | fields)


def _check(**fields: Any) -> Verdict:
    store = MemoryStore()
    store.save("clicks", _state(**fields).model_dump(mode="json"), None)
    return HeartbeatProbe(store, "clicks", SILENCE, GRACE).check(NOW)


def _pair(present_until: datetime | None, **fields: Any) -> Verdict:
    """What is seen of a stream that wants a standby, which says that it is there until this instant, or never came."""
    store = MemoryStore()
    if present_until is not None:
        mark_standby(store, "clicks", "host:8", present_until)
    store.save("clicks", _state(**fields).model_dump(mode="json"), None)
    return HeartbeatProbe(store, "clicks", SILENCE, GRACE, standby=True, takeover=TAKEOVER).check(NOW)


def _incident(**fields: Any) -> Incident:
    """One whose relaunch is to be judged by whether the stream got away from here."""
    told = {"lost_at": NOW - 9 * SECOND, "detected_at": NOW, "cause": "it died", "probe": "heartbeat"}
    return Incident(**told | {"dag_run_id": "run", "cursor": HERE} | fields)


SEEN: dict[str, tuple[dict[str, Any], Signal]] = {
    "rows come": (ALIVE | DUE_LATER | {"last_published": NOW - SECOND}, Signal.FLOWING),
    "rows came, and the next is due later": (ALIVE | DUE_LATER | {"last_published": NOW - SILENCE}, Signal.QUIET),
    "no row came yet, and none is due": (ALIVE | DUE_LATER, Signal.QUIET),
    "a living replay does not know its next row": (ALIVE, Signal.QUIET),
    "a living replay has not read its source, though rows came before": (
        ALIVE | DUE_LATER | NOT_READY | {"last_published": NOW - SECOND},
        Signal.STARTING,
    ),
    "a living replay has not read its source for long, and a row is due": (ALIVE | OVERDUE | NOT_READY, Signal.STALLED),
    "the replay failed before it had read its source": (
        RELEASED | DUE_LATER | NOT_READY | {"status": Status.FAILED},
        Signal.SILENT,
    ),
    "the lease ran out before the source was read": (LAPSED | DUE_LATER | NOT_READY, Signal.SILENT),
    "a row is due, though not for long": (ALIVE | BARELY_DUE, Signal.QUIET),
    "a living replay does not get its rows acknowledged": (ALIVE | OVERDUE, Signal.STALLED),
    "the lease ran out and rows are due": (LAPSED | OVERDUE, Signal.SILENT),
    "the lease ran out, and rows are due, though not for long": (LAPSED | BARELY_DUE, Signal.QUIET),
    "the lease ran out and no row is due": (LAPSED | DUE_LATER, Signal.QUIET),
    "the lease ran out before any row was known": (LAPSED, Signal.SILENT),
    "the replay failed and rows are due": (RELEASED | OVERDUE | {"status": Status.FAILED}, Signal.SILENT),
    "the replay was stopped by a signal, yet is wanted": (
        RELEASED | OVERDUE | {"status": Status.STOPPED},
        Signal.SILENT,
    ),
    "the replay ended at the source's end": (RELEASED | OVERDUE | {"status": Status.FINISHED}, Signal.FINISHED),
    "nobody wants the stream": (LAPSED | OVERDUE | {"wanted": False}, Signal.STOPPED),
    "the replay was started just now": (
        RELEASED | OVERDUE | ANNOUNCED | {"status_at": NOW - GRACE + TICK},
        Signal.STARTING,
    ),
    "the replay was started and never came": (RELEASED | OVERDUE | ANNOUNCED, Signal.SILENT),
    "the replay came, and died before its first checkpoint": (
        LAPSED | OVERDUE | {"status": Status.STARTING, "status_at": NOW},
        Signal.SILENT,
    ),
    "the replay came just now": (ALIVE | OVERDUE | {"status": Status.STARTING, "status_at": NOW}, Signal.STARTING),
    "the replay came some time ago, and sends nothing": (ALIVE | OVERDUE | {"status": Status.STARTING}, Signal.STALLED),
}


@pytest.mark.parametrize("situation", SEEN)
def test_the_signal_is_what_the_state_shows(situation: str) -> None:
    fields, signal = SEEN[situation]
    assert _check(**fields).signal is signal


def test_only_a_silent_stream_is_relaunched() -> None:
    assert [signal for signal in Signal if signal.needs_relaunch] == [Signal.SILENT]


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("due", [{}, OVERDUE, DUE_LATER])
def test_a_living_replay_is_never_relaunched(wanted: bool, status: Status, due: dict[str, Any]) -> None:
    assert not _check(**ALIVE, **due, status=status, wanted=wanted).signal.needs_relaunch


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("holder", [ALIVE, LAPSED, RELEASED])
def test_while_no_row_is_due_nothing_is_relaunched(status: Status, holder: dict[str, Any]) -> None:
    assert not _check(**holder, **DUE_LATER, status=status).signal.needs_relaunch


def test_a_stream_that_never_ran_is_unknown() -> None:
    assert HeartbeatProbe(MemoryStore(), "clicks", SILENCE, GRACE).check(NOW) == Verdict(Signal.UNKNOWN)


def test_silence_began_when_the_first_row_fell_due_that_did_not_come() -> None:
    verdict = _check(**LAPSED, **OVERDUE, last_published=NOW - 9 * SECOND, heartbeat=NOW - 8 * SECOND)
    assert (verdict.lost_at, verdict.last_seen) == (NOW - SILENCE, NOW - 9 * SECOND)
    assert verdict.detail == "epoch 4 was last heard of at 2026-11-20T11:59:52.000000Z, and then no more"


def test_silence_of_a_replay_that_knew_no_row_began_at_its_last_heartbeat() -> None:
    assert _check(**LAPSED, heartbeat=NOW - 8 * SECOND).lost_at == NOW - 8 * SECOND
    assert _check(**LAPSED).lost_at == NOW - GRACE, "which is when it came"
    assert _check(**LAPSED, status_at=None).lost_at == NOW


@pytest.mark.parametrize(
    ("fields", "reason", "detail"),
    [
        (LAPSED, Reason.DIED, "epoch 4 was last heard of at never, and then no more"),
        (RELEASED | {"status": Status.FAILED, "error": "topic rates is gone"}, Reason.FAILED, "topic rates is gone"),
        (RELEASED | {"status": Status.STOPPED}, Reason.ENDED, "epoch 4 was last heard of at never, and then no more"),
        (RELEASED | ANNOUNCED, Reason.NEVER_CAME, "epoch 4 was last heard of at never, and then no more"),
    ],
    ids=["died", "failed", "ended", "never came"],
)
def test_silence_has_a_reason_and_the_replays_own_words(fields: dict[str, Any], reason: Reason, detail: str) -> None:
    verdict = _check(**fields, **OVERDUE)
    assert (verdict.signal, verdict.reason, verdict.detail) == (Signal.SILENT, reason, detail)


@pytest.mark.parametrize("signal", [signal for signal in SEEN if SEEN[signal][1] is not Signal.SILENT])
def test_only_silence_has_a_reason(signal: str) -> None:
    assert _check(**SEEN[signal][0]).reason is None


# After a relaunch that did not help


def test_a_silence_that_a_relaunch_did_not_end_waits_for_the_next_one() -> None:
    trouble = {"cursor": HERE, "incidents": (_incident(retry_at=NOW + SECOND),)}
    assert _check(**RELEASED, **OVERDUE, **trouble) == Verdict(
        Signal.WAITING,
        lost_at=NOW - 9 * SECOND,
        detail="until 2026-11-20T12:00:01.000000Z",
        look_again=NOW + SECOND,
    )


def test_the_next_relaunch_comes_when_its_time_has_come() -> None:
    trouble = {"cursor": HERE, "incidents": (_incident(retry_at=NOW),)}
    assert _check(**RELEASED, **OVERDUE, **trouble).signal is Signal.SILENT


def test_a_silence_that_was_given_up_on_stays_so_and_says_why() -> None:
    hopeless = _incident(given_up=True, cause="crash loop", retry_at=NOW - SECOND)
    verdict = _check(**RELEASED, **OVERDUE, cursor=HERE, incidents=(hopeless,))
    assert (verdict.signal, verdict.lost_at, verdict.detail) == (Signal.GIVEN_UP, NOW - 9 * SECOND, "crash loop")


@pytest.mark.parametrize(
    "moved",
    [{"cursor": FURTHER}, {"cursor": HERE, "since": HERE}],
    ids=["the cursor moved", "somebody started anew"],
)
@pytest.mark.parametrize("vain", [{"retry_at": NOW + SECOND}, {"given_up": True}])
def test_a_stream_that_got_away_from_there_is_relaunched_at_once(moved: dict[str, Any], vain: dict[str, Any]) -> None:
    assert _check(**RELEASED, **OVERDUE, **moved, incidents=(_incident(**vain),)).signal is Signal.SILENT


def test_only_the_last_silence_counts() -> None:
    before = _incident(given_up=True)
    last = _incident(cursor=FURTHER, lost_at=NOW)
    assert _check(**RELEASED, **OVERDUE, cursor=HERE, incidents=(before, last)).signal is Signal.SILENT


def test_a_replay_that_lives_is_not_given_up_on() -> None:
    assert _check(**ALIVE, **OVERDUE, cursor=HERE, incidents=(_incident(given_up=True),)).signal is Signal.STALLED


# With one that stands by


@pytest.mark.parametrize(
    "gone",
    [
        {"holder": "host:7", "lease_until": NOW - TAKEOVER + TICK},
        RELEASED | {"status": Status.FAILED, "status_at": NOW - TAKEOVER + TICK},
    ],
    ids=["it died", "it failed"],
)
def test_one_that_stands_by_has_time_to_take_over(gone: dict[str, Any]) -> None:
    verdict = _pair(NOW + SECOND, **gone, **OVERDUE)
    assert (verdict.signal, verdict.detail) == (Signal.STARTING, "one that stands by takes over")


def test_one_that_stands_by_and_does_not_take_over_is_no_help() -> None:
    late = {"holder": "host:7", "lease_until": NOW - TAKEOVER}
    assert _pair(NOW + SECOND, **late, **OVERDUE).signal is Signal.SILENT


@pytest.mark.parametrize("present_until", [None, NOW])
def test_where_nobody_stands_by_nobody_is_waited_for(present_until: datetime | None) -> None:
    assert _pair(present_until, **LAPSED, **OVERDUE).signal is Signal.SILENT


def test_a_stream_without_a_standby_waits_for_none() -> None:
    store = MemoryStore()
    mark_standby(store, "clicks", "host:8", NOW + SECOND)
    probe = HeartbeatProbe(store, "clicks", SILENCE, GRACE, takeover=TAKEOVER)
    assert probe.judge(_state(**LAPSED, **OVERDUE), NOW).signal is Signal.SILENT


@pytest.mark.parametrize(
    ("present_until", "missing"), [(None, {Missing.STANDBY}), (NOW, {Missing.STANDBY}), (NOW + TICK, ())]
)
def test_a_pair_of_which_one_publishes_lacks_the_one_that_stands_by(
    present_until: datetime | None, missing: frozenset[Missing]
) -> None:
    verdict = _pair(present_until, **ALIVE, **DUE_LATER, last_published=NOW)
    assert (verdict.signal, verdict.missing) == (Signal.FLOWING, frozenset(missing))


def test_a_stream_that_wants_no_standby_lacks_none() -> None:
    assert _check(**ALIVE, **DUE_LATER).missing == frozenset()


# When to look again

near = st.integers(-8, 8).map(lambda number: NOW + number * SECOND)
states = st.builds(
    _state,
    wanted=st.sampled_from([True, True, True, False]),
    status=st.sampled_from(Status),
    status_at=st.none() | st.integers(-40, 8).map(lambda number: NOW + number * SECOND),
    holder=st.sampled_from([None, "host:7"]),
    lease_until=st.none() | near,
    next_due=st.none() | near,
    last_published=st.none() | near,
    heartbeat=st.none() | near,
    announced=st.sampled_from([(), ("--topic=t",)]),
    cursor=st.sampled_from([None, HERE]),
    incidents=st.just(())
    | st.builds(
        _incident, retry_at=st.none() | near, given_up=st.booleans(), cursor=st.sampled_from([HERE, FURTHER])
    ).map(lambda incident: (incident,)),
)


@settings(max_examples=200)
@given(state=states, standby=st.booleans(), present_until=near, part=st.floats(0, 1))
def test_before_it_is_to_be_looked_at_again_nothing_turns_silent_and_then_something_is_new(
    state: StreamState, standby: bool, present_until: datetime, part: float
) -> None:
    store = MemoryStore()
    mark_standby(store, "clicks", "host:8", present_until)
    probe = HeartbeatProbe(store, "clicks", SILENCE, GRACE, standby=standby, takeover=TAKEOVER)
    look_again = probe.judge(state, NOW).look_again
    assume(look_again is not None)
    assert look_again > NOW
    for instant in (NOW + part * (look_again - TICK - NOW), look_again - TICK):
        assert not probe.judge(state, instant).signal.needs_relaunch
    then = probe.judge(state, look_again)
    assert then.signal.needs_relaunch or then.look_again is None or then.look_again > look_again


@pytest.mark.parametrize(
    ("fields", "look_again"),
    [
        (ALIVE | DUE_LATER, NOW + SECOND + SILENCE),
        (ALIVE | BARELY_DUE, NOW + SECOND),
        (ALIVE | OVERDUE, NOW + SECOND),
        (ALIVE, NOW + SECOND),
        (LAPSED | DUE_LATER, NOW + SECOND + SILENCE),
        (RELEASED | OVERDUE | ANNOUNCED | {"status_at": NOW}, NOW + GRACE),
        (RELEASED | OVERDUE | {"incidents": (_incident(retry_at=NOW + SECOND, cursor=None),)}, NOW + SECOND),
    ],
    ids=["due later", "due", "overdue", "nothing known", "dead and due later", "announced", "waiting"],
)
def test_who_looks_then_sees_the_silence_that_begins(fields: dict[str, Any], look_again: datetime) -> None:
    probe = HeartbeatProbe(MemoryStore(), "clicks", SILENCE, GRACE)
    assert probe.judge(_state(**fields), NOW).look_again == look_again
    assert probe.judge(_state(**fields), look_again).signal is Signal.SILENT
