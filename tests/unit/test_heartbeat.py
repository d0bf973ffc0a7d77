"""The heartbeat probe: silence counts only while rows are due, and only once nobody holds the lease."""

from datetime import timedelta
from typing import Any

import pytest

from rejeu.ports import Signal, Verdict
from rejeu.state.heartbeat import HeartbeatProbe
from rejeu.state.model import Status, StreamState
from rejeu.testing import MemoryStore
from rejeu.timeline import parse_instant

NOW = parse_instant("2026-11-20T12:00:00Z")
SILENCE, GRACE = timedelta(seconds=5), timedelta(seconds=30)
SECOND, TICK = timedelta(seconds=1), timedelta(microseconds=1)

ALIVE = {"holder": "host:7", "lease_until": NOW + SECOND}
LAPSED = {"holder": "host:7", "lease_until": NOW}
RELEASED: dict[str, Any] = {"holder": None, "lease_until": None}
OVERDUE, DUE_LATER = {"next_due": NOW - SILENCE}, {"next_due": NOW + SECOND}
BARELY_DUE = {"next_due": NOW - SILENCE + TICK}


def _check(**fields: Any) -> Verdict:
    store = MemoryStore()
    running: dict[str, Any] = {"status": Status.RUNNING, "status_at": NOW - GRACE}
    state = StreamState(stream="clicks", epoch=4, **running | fields)
    store.save("clicks", state.model_dump(mode="json"), None)
    return HeartbeatProbe(store, "clicks", SILENCE, GRACE).check(NOW)


SEEN: dict[str, tuple[dict[str, Any], Signal]] = {
    "rows come": (ALIVE | DUE_LATER | {"last_published": NOW - SECOND}, Signal.FLOWING),
    "rows came, and the next is due later": (ALIVE | DUE_LATER | {"last_published": NOW - SILENCE}, Signal.QUIET),
    "no row came yet, and none is due": (ALIVE | DUE_LATER, Signal.QUIET),
    "a living replay does not know its next row": (ALIVE, Signal.QUIET),
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
        LAPSED | OVERDUE | {"status": Status.STARTING, "status_at": NOW - GRACE + TICK},
        Signal.STARTING,
    ),
    "the replay was started and never showed": (
        LAPSED | OVERDUE | {"status": Status.STARTING, "status_at": NOW - GRACE},
        Signal.SILENT,
    ),
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
    assert _check(**LAPSED).lost_at == NOW


def test_a_failed_replay_is_silent_for_the_reason_it_gave() -> None:
    verdict = _check(**RELEASED, **OVERDUE, status=Status.FAILED, error="topic rates is gone")
    assert verdict.detail == "topic rates is gone"
