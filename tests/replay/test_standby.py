"""A standby: when it takes over and when not, and which rows it then has at hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rejeu.errors import LeaseHeldError, SourceError, StateError
from rejeu.jobs.build import standby_request
from rejeu.jobs.request import ReplayRequest
from rejeu.replay import standby as standby_module
from rejeu.replay.chunk import Chunk
from rejeu.replay.read_ahead import ReadAhead
from rejeu.replay.standby import GRACE, Standby, is_free, is_over
from rejeu.state import Rhythm
from rejeu.state.lease import Lease, update_state
from rejeu.state.lease_watch import LeaseWatch
from rejeu.state.model import Status, StreamState
from rejeu.state.stream import announce, mark_unwanted
from rejeu.timeline import Position
from tests.fakes.breaking_store import Store
from tests.replay.rows import SECONDS, STREAM, chunk_of
from tests.state.fencing import fence_off

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LAST = 100
LONG, OVER = 60.0, 1e-6
"""How many seconds a lease lasts that somebody holds, and one that ran out."""
REQUEST = ReplayRequest.of(
    topic="projects/p/topics/t",
    stream=STREAM,
    file="unused",
    event_time="at",
    state="sqlite:unused",
    patience_seconds=SECONDS,
)
AT_ONCE = Rhythm(checkpoint_seconds=0, lease_seconds=LONG)


class Source:
    """One row an instant, from 0 to `LAST`, read as a standby reads it; remembers from where, and may break."""

    def __init__(self) -> None:
        self.read_from: list[Position | None] = []
        self.breaks_at: int | None = None
        self.reached = -1
        self._changed = threading.Condition()

    def __call__(self, request: ReplayRequest, start: Position | None) -> Iterator[Chunk]:
        self.read_from.append(start)
        for event_us in range(start.event_us + min(start.count, 1) if start else 0, LAST + 1):
            if event_us == self.breaks_at:
                raise SourceError("the table is gone")
            with self._changed:
                self.reached = event_us
                self._changed.notify_all()
            yield chunk_of([(event_us, f"{STREAM}/{event_us}/k/0", b"row")])

    def wait_for(self, event_us: int) -> None:
        """Wait until the row of this instant is read."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.reached >= event_us, SECONDS), self.reached


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    made = Source()
    monkeypatch.setattr(standby_module, "read_chunks", made)
    return made


@pytest.fixture
def standby(source: Source, store: Store) -> Iterator[Standby]:
    with Standby(standby_request(REQUEST), store, AT_ONCE, "standby") as made:
        yield made


Found = tuple[Lease, ReadAhead] | None
Wait = Callable[..., Found]


@pytest.fixture
def wait(standby: Standby, store: Store) -> Wait:
    """Has the standby wait while things happen, one between two looks, then tells it to stop."""

    def through(*happenings: Callable[[], object]) -> Found:
        coming = iter(happenings)

        def goes_on() -> bool:
            happening = next(coming, None)
            if happening is not None:
                happening()
            return happening is not None

        return standby.wait(goes_on, lambda watched: Lease.acquire(store, STREAM, "standby", LONG, watched=watched))

    return through


def nothing() -> None:
    """Happens."""


def taken(found: Found) -> tuple[int, list[int]]:
    """The epoch under which it took over, and the next rows."""
    assert found is not None
    lease, ahead = found
    return lease.epoch, [int(each.event_us[0]) for each in ahead.chunks(lambda: True)]


def hold(store: Store, seconds: float = LONG, **fields: Any) -> Lease:
    return Lease.acquire(store, STREAM, "holder", seconds, **fields)


def state(**fields: Any) -> StreamState:
    """Of a stream that somebody holds, unless told otherwise."""
    held = {"epoch": 3, "holder": "holder", "lease_until": NOW + timedelta(seconds=1), "status": Status.RUNNING}
    return StreamState(stream=STREAM, **held | {"status_at": NOW - timedelta(hours=1)} | fields)


# When


@pytest.mark.parametrize(
    ("fields", "free"),
    [
        ({}, False),
        ({"lease_until": NOW}, True),
        ({"lease_until": NOW, "status": Status.STARTING, "status_at": NOW}, True),
        ({"holder": None, "lease_until": None}, True),
        ({"holder": None, "lease_until": None, "status": Status.FAILED}, True),
        ({"holder": None, "lease_until": None, "status": Status.STOPPED}, True),
        ({"holder": None, "lease_until": None, "status": Status.STARTING, "status_at": NOW}, False),
        ({"holder": None, "lease_until": None, "status": Status.STARTING, "status_at": NOW - GRACE}, True),
        ({"epoch": 0, "holder": None, "lease_until": None, "status": Status.STARTING}, False),
    ],
    ids=[
        "held",
        "ran out",
        "ran out before its first checkpoint",
        "fenced off",
        "failed",
        "stopped",
        "announced just now",
        "announced and never come",
        "never held",
    ],
)
def test_a_lease_is_free_once_its_holder_is_gone_and_nobody_else_is_about_to_come(
    fields: dict[str, Any], free: bool
) -> None:
    assert is_free(state(**fields), NOW) is free


@pytest.mark.parametrize(
    ("fields", "over"),
    [
        ({}, False),
        ({"wanted": False}, True),
        ({"holder": None, "status": Status.FINISHED}, True),
        ({"status": Status.FINISHED}, False),
        ({"holder": None, "status": Status.STOPPED}, False),
        ({"holder": None, "status": Status.FAILED}, False),
    ],
    ids=["held", "unwanted", "finished", "taken up again after its end", "stopped", "failed"],
)
def test_a_stream_is_over_once_every_row_is_out_or_nobody_wants_it(fields: dict[str, Any], over: bool) -> None:
    assert is_over(state(**fields)) is over


def test_it_takes_over_a_lease_that_ran_out(store: Store, wait: Wait) -> None:
    hold(store, OVER, cursor=Position(97, 1))
    assert taken(wait(nothing)) == (2, [98, 99, 100])


@pytest.mark.parametrize("status", [Status.FAILED, Status.STOPPED])
def test_it_takes_over_from_a_holder_that_failed_or_was_stopped(store: Store, wait: Wait, status: Status) -> None:
    lease = hold(store, cursor=Position(90, 1))
    found = wait(nothing, nothing, lambda: lease.release(status, cursor=Position(98, 1)))
    assert taken(found) == (2, [99, 100])


def test_it_takes_over_from_a_holder_that_was_fenced_off(store: Store, wait: Wait) -> None:
    lease = hold(store)
    lease.checkpoint(status=Status.RUNNING, cursor=Position(99, 1))
    assert taken(wait(nothing, lambda: fence_off(store, STREAM, lease.epoch))) == (3, [100])


def test_it_leaves_a_living_holder_alone(store: Store, wait: Wait) -> None:
    lease = hold(store)
    assert wait(*[nothing] * 20) is None
    assert (store.stream.epoch, store.stream.holder) == (lease.epoch, "holder")


def test_it_waits_for_a_stream_that_never_ran_and_reads_nothing_of_it(store: Store, wait: Wait, source: Source) -> None:
    assert wait(nothing, lambda: announce(store, REQUEST), nothing) is None
    assert (source.read_from, store.stream.epoch) == ([], 0)


def test_it_ends_with_a_stream_that_is_finished_or_not_wanted(store: Store, wait: Wait, standby: Standby) -> None:
    lease = hold(store)
    still_waiting: list[str] = []
    assert wait(nothing, lambda: lease.release(Status.FINISHED), lambda: still_waiting.append("finished")) is None
    lease = hold(store)
    assert wait(nothing, lambda: mark_unwanted(store, STREAM), lambda: still_waiting.append("unwanted")) is None
    assert still_waiting == []


def test_it_leaves_a_stream_to_the_one_that_was_just_announced(store: Store, wait: Wait) -> None:
    hold(store).release(Status.FAILED)
    announce(store, REQUEST)
    assert wait(nothing, nothing) is None
    hold(store)
    assert wait(nothing, nothing) is None
    assert store.stream.holder == "holder"


def test_it_goes_on_in_place_of_one_that_was_announced_and_never_came(store: Store, wait: Wait) -> None:
    hold(store, cursor=Position(LAST)).release(Status.FAILED)
    announce(store, REQUEST)
    long_ago = datetime.now(UTC) - GRACE
    update_state(store, STREAM, lambda state: state.model_copy(update={"status_at": long_ago}))
    assert taken(wait(nothing)) == (2, [LAST])


def test_of_two_the_first_to_take_it_wins_and_the_other_goes_on_standing_by(
    store: Store, standby: Standby, source: Source
) -> None:
    hold(store, OVER, cursor=Position(50, 1))
    looks = iter([True, True, True, False])
    asked: list[str] = []

    def come_second(watched: LeaseWatch) -> Lease:
        asked.append("asked")
        Lease.acquire(store, STREAM, "first", LONG)
        return Lease.acquire(store, STREAM, "second", LONG, watched=watched)

    assert standby.wait(lambda: next(looks), come_second) is None
    assert (store.stream.holder, store.stream.epoch, asked) == ("first", 2, ["asked"])
    with pytest.raises(LeaseHeldError):
        Lease.acquire(store, STREAM, "second", LONG)


# With which rows


def test_while_it_waits_it_reads_the_rows_behind_the_holders_cursor(store: Store, wait: Wait, source: Source) -> None:
    lease = hold(store)

    def move_to(event_us: int) -> Callable[[], object]:
        def move() -> None:
            lease.checkpoint(cursor=Position(event_us, 1))
            if event_us:
                source.wait_for(event_us)

        return move

    found = wait(
        nothing,
        *(move_to(event_us) for event_us in range(95)),
        lambda: lease.release(Status.FAILED, cursor=Position(95, 1)),
    )
    assert source.read_from == [None], "it read along, without ever beginning anew"
    assert taken(found) == (2, [96, 97, 98, 99, 100])


def test_a_holder_that_goes_back_is_followed_there(store: Store, wait: Wait, source: Source) -> None:
    lease = hold(store, cursor=Position(90, 1))
    found = wait(
        nothing,
        lambda: lease.checkpoint(cursor=Position(98, 1)),
        lambda: lease.checkpoint(cursor=Position(94, 1)),
        nothing,
        lambda: lease.release(Status.FAILED, cursor=Position(96, 1)),
    )
    assert source.read_from == [Position(90, 1), Position(94, 1)]
    assert taken(found) == (2, [97, 98, 99, 100])


def test_a_holder_that_starts_afresh_is_followed_to_the_first_row(store: Store, wait: Wait, source: Source) -> None:
    lease = hold(store, cursor=Position(90, 1))
    found = wait(
        nothing, lambda: lease.checkpoint(cursor=None), nothing, lambda: lease.release(Status.FAILED, cursor=None)
    )
    assert source.read_from == [Position(90, 1), None]
    assert taken(found) == (2, list(range(LAST + 1)))


def test_a_cursor_that_moves_while_the_lease_is_taken_is_the_one_that_counts(
    store: Store, standby: Standby, source: Source
) -> None:
    hold(store, OVER, cursor=Position(90, 1))

    def after_another(watched: LeaseWatch) -> Lease:
        Lease.acquire(store, STREAM, "another", LONG).release(Status.STOPPED, cursor=Position(97, 1))
        return Lease.acquire(store, STREAM, "standby", LONG, watched=watched)

    assert taken(standby.wait(lambda: True, after_another)) == (3, [98, 99, 100])


# What goes wrong


def test_a_source_that_breaks_does_so_behind_the_rows_before_it(store: Store, wait: Wait, source: Source) -> None:
    source.breaks_at = 99
    hold(store, OVER, cursor=Position(97, 1))
    found = wait(nothing)
    assert found is not None
    chunks = found[1].chunks(lambda: True)
    assert int(next(chunks).event_us[0]) == 98
    with pytest.raises(SourceError, match="the table is gone"):
        next(chunks)


def test_a_source_that_was_broken_while_it_waited_is_read_anew_when_it_takes_over(
    store: Store, wait: Wait, standby: Standby, source: Source
) -> None:
    source.breaks_at = 98
    lease = hold(store, cursor=Position(96, 1))

    def mend() -> None:
        assert standby._ahead is not None
        standby._ahead._reading.thread.join(SECONDS)
        source.breaks_at = None

    found = wait(
        nothing,
        lambda: lease.checkpoint(cursor=Position(97, 1)),
        mend,
        lambda: lease.release(Status.FAILED, cursor=Position(97, 1)),
    )
    assert taken(found) == (2, [98, 99, 100])


def test_a_store_that_fails_for_a_while_is_asked_again_and_told_of_once(
    store: Store, wait: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    hold(store, OVER, cursor=Position(LAST))

    def fail(broken: bool) -> Callable[[], None]:
        return lambda: setattr(store, "broken", broken)

    assert taken(wait(fail(True), nothing, nothing, fail(False))) == (2, [LAST])
    assert [message for message in caplog.messages if "disk full" in message] == [
        f"{STREAM}: standing by: state store: disk full; trying again for 20 s"
    ]


def test_a_store_that_stays_away_ends_it(store: Store, source: Source) -> None:
    store.broken = True
    impatient = standby_request(REQUEST).model_copy(update={"patience_seconds": 0.01})
    with Standby(impatient, store, AT_ONCE, "standby") as made, pytest.raises(StateError, match="disk full"):
        made.wait(lambda: True, lambda _: hold(store))
