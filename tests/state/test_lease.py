"""The lease: one holder at a time, whatever runs out and whoever comes between."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rejeu.errors import LeaseHeldError, LeaseLostError, StateConflictError, StateError
from rejeu.ports import StateStore
from rejeu.state import lease as lease_module
from rejeu.state import lease_watch
from rejeu.state.lease import MAX_CONFLICTS, Lease, read_state, update_state
from rejeu.state.lease_watch import LeaseWatch
from rejeu.state.model import Status, StreamState
from rejeu.testing import MemoryStore
from rejeu.timeline import Position
from tests.fakes.crowded_store import Clock, CrowdedStore
from tests.state.fencing import fence_off

STREAM = "clicks"
SECONDS = 3.0


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    with made.installed(lease_module), made.installed(lease_watch):
        yield made


class Stepped:
    """Another machine's wall clock, which is ahead, or behind."""

    def __init__(self, clock: Clock, by: timedelta) -> None:
        self._clock, self._by = clock, by

    def now(self, zone: object) -> datetime:
        return self._clock.now(zone) + self._by


@pytest.fixture
def store() -> CrowdedStore:
    return CrowdedStore()


def _acquire(store: StateStore, holder: str = "one", **fields: Any) -> Lease:
    return Lease.acquire(store, STREAM, holder, SECONDS, **fields)


def _state(store: MemoryStore) -> StreamState:
    state = read_state(store, STREAM)
    assert state is not None
    return state


# One after the other


def test_a_stream_that_never_ran_has_no_state(store: CrowdedStore) -> None:
    assert read_state(store, STREAM) is None


def test_the_first_holder_gets_the_first_epoch(store: CrowdedStore, clock: Clock) -> None:
    lease = _acquire(store, request=("--topic=t",))
    state = _state(store)
    assert (lease.epoch, state.holder, state.status) == (1, "one", Status.STARTING)
    assert state.lease_until == clock.now(UTC) + timedelta(seconds=SECONDS)
    assert state.request == ("--topic=t",)
    assert lease.is_held()


def test_a_lease_that_is_held_is_refused_with_who_and_until_when(store: CrowdedStore, clock: Clock) -> None:
    _acquire(store, "host:7")
    with pytest.raises(LeaseHeldError) as caught:
        _acquire(store, "host:8")
    assert str(caught.value) == (
        "clicks: host:7 publishes under epoch 1 until 2026-11-20T12:00:03.000000Z: "
        "stop it first, or wait until it is gone"
    )


def test_a_lease_that_ran_out_goes_to_the_next_under_a_greater_epoch(store: CrowdedStore, clock: Clock) -> None:
    first = _acquire(store)
    clock.elapsed += SECONDS
    assert not first.is_held()
    assert _acquire(store, "two").epoch == 2


@pytest.mark.parametrize("hours", [-1, -0.01, 0.01, 1])
def test_a_lease_goes_to_whoever_has_watched_it_stand_still_whatever_the_clocks_say(
    store: CrowdedStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    first, watched, there = _acquire(store), LeaseWatch(), Stepped(clock, timedelta(hours=hours))

    def ask() -> Lease:
        with monkeypatch.context() as patch:
            patch.setattr(lease_module, "datetime", there)
            return _acquire(store, "two", watched=watched)

    for _ in range(8):
        with pytest.raises(LeaseHeldError):
            ask()
        clock.elapsed += SECONDS / 5
        first.checkpoint()
    with pytest.raises(LeaseHeldError):
        ask()
    clock.elapsed += SECONDS + 0.01
    assert (ask().epoch, first.is_held()) == (2, False)


def test_a_lease_that_is_renewed_at_the_last_moment_is_left_alone(
    store: CrowdedStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, watched = _acquire(store), LeaseWatch()
    here, there = clock, Stepped(clock, timedelta(hours=1))
    watched.may_be_held(_state(store), there.now(UTC))
    clock.elapsed += SECONDS + 0.01
    assert not watched.may_be_held(_state(store), there.now(UTC))

    def renew() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(lease_module, "datetime", here)
            first.checkpoint()

    store.between = renew
    monkeypatch.setattr(lease_module, "datetime", there)
    with pytest.raises(LeaseHeldError):
        _acquire(store, "two", watched=watched)
    assert _state(store).holder == "one"


@pytest.mark.parametrize("is_seen", [True, False], ids=["a renewal shows it", "nothing shows it yet"])
@pytest.mark.parametrize("hours", [-1, -0.01, 0.01, 1])
def test_after_a_step_of_the_clock_nothing_is_known_but_that_the_lease_stands_still(
    store: CrowdedStore, clock: Clock, hours: float, is_seen: bool
) -> None:
    first, watched = _acquire(store), LeaseWatch()
    for _ in range(8):
        watched.may_be_held(_state(store), clock.now(UTC))
        clock.elapsed += SECONDS / 5
        first.checkpoint()
    watched.may_be_held(_state(store), clock.now(UTC))
    stepped = Stepped(clock, timedelta(hours=hours))
    if is_seen:
        first.checkpoint()
        watched.may_be_held(_state(store), stepped.now(UTC))
    clock.elapsed += SECONDS / 2
    assert watched.may_be_held(_state(store), stepped.now(UTC))
    clock.elapsed += SECONDS / 2 + 0.01
    assert not watched.may_be_held(_state(store), stepped.now(UTC))


def test_a_checkpoint_renews_the_lease_and_saves_what_was_reached(store: CrowdedStore, clock: Clock) -> None:
    lease = _acquire(store)
    clock.elapsed += SECONDS - 0.5
    lease.checkpoint(cursor=Position(7, 2), status=Status.RUNNING)
    clock.elapsed += SECONDS - 0.5
    assert lease.is_held()
    assert (_state(store).cursor, _state(store).status) == (Position(7, 2), Status.RUNNING)
    with pytest.raises(LeaseHeldError):
        _acquire(store, "two")


def test_a_lease_that_ran_out_unnoticed_is_renewed(store: CrowdedStore, clock: Clock) -> None:
    lease = _acquire(store)
    clock.elapsed += 10 * SECONDS
    lease.checkpoint()
    assert lease.is_held()
    assert lease.epoch == 1


def test_a_holder_that_was_away_too_long_learns_who_took_over(store: CrowdedStore, clock: Clock) -> None:
    first = _acquire(store)
    clock.elapsed += SECONDS
    _acquire(store, "two", cursor=Position(9))
    with pytest.raises(LeaseLostError) as caught:
        first.checkpoint(cursor=Position(1))
    assert str(caught.value) == (
        "clicks: epoch 2 (two) took over from epoch 1: this replay stops before its next message"
    )
    assert _state(store).cursor == Position(9)


def test_a_released_lease_is_free_at_once_and_says_how_it_ended(store: CrowdedStore, clock: Clock) -> None:
    lease = _acquire(store)
    lease.release(Status.FAILED, "topic is gone", cursor=Position(5))
    state = _state(store)
    assert (state.status, state.error, state.cursor, state.holder) == (
        Status.FAILED,
        "topic is gone",
        Position(5),
        None,
    )
    assert not lease.is_held()
    assert _acquire(store, "two").state.error is None


def test_a_released_lease_is_not_renewed(store: CrowdedStore, clock: Clock) -> None:
    lease = _acquire(store)
    lease.release(Status.STOPPED)
    with pytest.raises(LeaseLostError):
        lease.checkpoint()
    assert not lease.is_held()


def test_a_lost_lease_is_left_to_its_new_holder(store: CrowdedStore, clock: Clock) -> None:
    first = _acquire(store)
    clock.elapsed += SECONDS
    _acquire(store, "two")
    before = _state(store)
    first.release(Status.STOPPED)
    assert _state(store) == before


def test_a_new_holder_keeps_the_cursor_and_counts_anew(store: CrowdedStore, clock: Clock) -> None:
    first = _acquire(store)
    first.checkpoint(cursor=Position(7, 1), published=5, owed=2)
    first.release(Status.STOPPED)
    state = _acquire(store, "two").state
    assert (state.cursor, state.published, state.owed, state.epoch) == (Position(7, 1), 0, 0, 2)


def test_a_holder_that_was_fenced_off_saves_nothing_and_is_not_waited_for(store: CrowdedStore, clock: Clock) -> None:
    dead = _acquire(store)
    fence_off(store, STREAM, dead.epoch)
    with pytest.raises(LeaseLostError, match="fenced off"):
        dead.checkpoint()
    assert _acquire(store, "two").epoch == 3


def test_who_takes_the_lease_is_the_one_that_was_announced(store: CrowdedStore, clock: Clock) -> None:
    update_state(store, STREAM, lambda state: state.model_copy(update={"announced": ("--topic=t",)}))
    assert _acquire(store).state.announced == ()


# Answers that are lost


def test_a_lease_whose_answer_was_lost_is_held_under_one_epoch(store: CrowdedStore, clock: Clock) -> None:
    store.lost = StateConflictError
    lease = _acquire(store, "one")
    assert (lease.epoch, _state(store).epoch, _state(store).holder) == (1, 1, "one")
    assert lease.is_held()


def test_who_asks_again_recognises_the_lease_it_never_heard_of(store: CrowdedStore, clock: Clock) -> None:
    store.lost = StateError
    with pytest.raises(StateError):
        _acquire(store, "one")
    with pytest.raises(LeaseHeldError, match="one publishes under epoch 1"):
        _acquire(store, "two")
    clock.elapsed += SECONDS - 0.5
    lease = _acquire(store, "one")
    clock.elapsed += SECONDS - 0.5
    assert lease.epoch == 1
    assert lease.is_held()


def test_a_lease_that_another_took_meanwhile_is_not_recognised(store: CrowdedStore, clock: Clock) -> None:
    store.lost = StateError
    with pytest.raises(StateError):
        _acquire(store, "one")
    clock.elapsed += SECONDS
    _acquire(store, "two")
    with pytest.raises(LeaseHeldError, match="two publishes under epoch 2"):
        _acquire(store, "one")


def test_a_checkpoint_whose_answer_was_lost_is_made(store: CrowdedStore, clock: Clock) -> None:
    lease = _acquire(store)
    store.lost = StateConflictError
    clock.elapsed += SECONDS - 0.5
    lease.checkpoint(cursor=Position(7))
    clock.elapsed += SECONDS - 0.5
    assert lease.is_held()
    assert (_state(store).cursor, _state(store).epoch) == (Position(7), 1)


def test_a_release_whose_answer_was_lost_is_a_release(store: CrowdedStore, clock: Clock) -> None:
    lease = _acquire(store)
    store.lost = StateConflictError
    lease.release(Status.STOPPED, cursor=Position(7))
    assert (_state(store).status, _state(store).cursor, _state(store).holder) == (Status.STOPPED, Position(7), None)
    assert _acquire(store, "two").epoch == 2


def test_who_cannot_tell_whether_its_release_was_made_publishes_no_more(store: CrowdedStore, clock: Clock) -> None:
    lease = _acquire(store)
    store.lost = StateError
    with pytest.raises(StateError):
        lease.release(Status.STOPPED)
    assert not lease.is_held()


# At once


def test_of_two_that_ask_at_once_one_gets_the_lease(store: CrowdedStore, clock: Clock) -> None:
    store.between = lambda: _acquire(store, "quicker")
    with pytest.raises(LeaseHeldError, match="quicker"):
        _acquire(store, "slower")


def test_a_wish_that_comes_between_is_not_written_over(store: CrowdedStore, clock: Clock) -> None:
    lease = _acquire(store)
    store.between = lambda: update_state(store, STREAM, lambda state: state.model_copy(update={"wanted": False}))
    assert not lease.checkpoint(cursor=Position(3)).wanted
    assert (_state(store).wanted, _state(store).cursor) == (False, Position(3))


def test_a_lease_lost_between_reading_and_writing_is_lost(store: CrowdedStore, clock: Clock) -> None:
    first = _acquire(store)
    clock.elapsed += SECONDS
    store.between = lambda: _acquire(store, "two")
    with pytest.raises(LeaseLostError):
        first.checkpoint()


def test_a_lease_runs_from_before_its_writing_was_asked_for(store: CrowdedStore, clock: Clock) -> None:
    def pause() -> None:
        clock.elapsed += SECONDS

    store.between = pause
    assert not _acquire(store).is_held()


def test_a_document_that_is_always_taken_is_an_error_and_no_endless_loop(store: CrowdedStore, clock: Clock) -> None:
    def write_first(state: StreamState) -> StreamState:
        update_state(store, STREAM, lambda mine: mine.model_copy(update={"owed": mine.owed + 1}))
        return state

    with pytest.raises(StateConflictError, match=f"{MAX_CONFLICTS} writers came first"):
        update_state(store, STREAM, write_first)


def test_of_many_threads_one_gets_the_lease() -> None:
    store = MemoryStore()

    def ask(number: int) -> int:
        try:
            return _acquire(store, str(number)).epoch
        except LeaseHeldError:
            return 0

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, range(16)))[-2:] == [0, 1]
