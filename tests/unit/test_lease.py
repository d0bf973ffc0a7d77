"""The lease: one holder at a time, whatever runs out and whoever comes between."""

import itertools
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rejeu.errors import LeaseHeldError, LeaseLostError, StateConflictError, StateError
from rejeu.ports import StateStore
from rejeu.state import gcs
from rejeu.state import lease as lease_module
from rejeu.state.gcs import GcsStore
from rejeu.state.lease import MAX_CONFLICTS, Lease, read_state, release_dead, update_state
from rejeu.state.model import Status, StreamState
from rejeu.testing import MemoryStore
from rejeu.timeline import Position, parse_instant
from tests.conftest import BUCKET
from tests.fakes.storage_server import StorageServer

STREAM = "clicks"
SECONDS = 3.0
LONG_SECONDS = 300.0


class Clock:
    """Wall clock and monotonic clock of the lease, which move together and only when told."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def now(self, zone: object) -> datetime:
        assert zone is UTC, "an instant without a zone is another one on each machine"
        return parse_instant("2026-11-20T12:00:00Z") + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return 1_000 + self.elapsed

    @contextmanager
    def installed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lease_module, "datetime", self)
            patch.setattr(lease_module, "time", SimpleNamespace(monotonic=self.monotonic))
            yield


class CrowdedStore(MemoryStore):
    """Lets somebody else do something between a client's reading and its writing, or loses its answer; once."""

    between: Callable[[], object] | None = None
    lost: type[StateError] | None = None
    """What a client hears of a write that is made: a conflict with itself, where it tried again, or nothing."""

    def save(self, name: str, document: dict[str, Any], expected: int | None) -> int:
        somebody, self.between = self.between, None
        lost, self.lost = self.lost, None
        if somebody is not None:
            somebody()
        version = super().save(name, document, expected)
        if lost is not None:
            raise lost("the answer was lost")
        return version


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    with made.installed():
        yield made


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
    assert lease.is_live()


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
    assert not first.is_live()
    assert _acquire(store, "two").epoch == 2


def test_a_checkpoint_renews_the_lease_and_saves_what_was_reached(store: CrowdedStore, clock: Clock) -> None:
    lease = _acquire(store)
    clock.elapsed += SECONDS - 0.5
    lease.checkpoint(cursor=Position(7, 2), status=Status.RUNNING)
    clock.elapsed += SECONDS - 0.5
    assert lease.is_live()
    assert (_state(store).cursor, _state(store).status) == (Position(7, 2), Status.RUNNING)
    with pytest.raises(LeaseHeldError):
        _acquire(store, "two")


def test_a_lease_that_ran_out_unnoticed_is_renewed(store: CrowdedStore, clock: Clock) -> None:
    lease = _acquire(store)
    clock.elapsed += 10 * SECONDS
    lease.checkpoint()
    assert lease.is_live()
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
    assert not lease.is_live()
    assert _acquire(store, "two").state.error is None


def test_a_released_lease_is_not_renewed(store: CrowdedStore, clock: Clock) -> None:
    lease = _acquire(store)
    lease.release(Status.STOPPED)
    with pytest.raises(LeaseLostError):
        lease.checkpoint()
    assert not lease.is_live()


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


def test_a_dead_holder_is_fenced_off_without_waiting(store: CrowdedStore, clock: Clock) -> None:
    dead = _acquire(store)
    release_dead(store, STREAM, dead.epoch)
    with pytest.raises(LeaseLostError, match="fenced off"):
        dead.checkpoint()
    assert _acquire(store, "two").epoch == 3


def test_the_successor_of_a_dead_holder_is_not_fenced_off(store: CrowdedStore, clock: Clock) -> None:
    dead = _acquire(store)
    clock.elapsed += SECONDS
    successor = _acquire(store, "two")
    release_dead(store, STREAM, dead.epoch)
    successor.checkpoint()
    assert successor.is_live()


# Answers that are lost


def test_a_lease_whose_answer_was_lost_is_held_under_one_epoch(store: CrowdedStore, clock: Clock) -> None:
    store.lost = StateConflictError
    lease = _acquire(store, "one")
    assert (lease.epoch, _state(store).epoch, _state(store).holder) == (1, 1, "one")
    assert lease.is_live()


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
    assert lease.is_live()


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
    assert lease.is_live()
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
    assert not lease.is_live()


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
    assert not _acquire(store).is_live()


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


# On Cloud Storage


def test_a_replay_does_not_meet_itself_on_cloud_storage(cloud: StorageServer) -> None:
    store = GcsStore(BUCKET)
    cloud.faults = iter([None, None, "lost"])
    lease = _acquire(store)
    cloud.faults = iter([None, "lost"])
    lease.checkpoint(cursor=Position(7))
    assert lease.epoch == 1
    cloud.faults = iter([None, "lost"])
    lease.release(Status.STOPPED)
    state = _acquire(store, "two").state
    assert (state.epoch, state.cursor) == (2, Position(7))


def test_a_replay_that_was_told_nothing_asks_cloud_storage_again(
    cloud: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs, "RETRY_SECONDS", 0.0)
    cloud.faults = iter([None, None, "lost"])
    with pytest.raises(StateError):
        _acquire(GcsStore(BUCKET))
    assert _acquire(GcsStore(BUCKET)).epoch == 1
    with pytest.raises(LeaseHeldError):
        _acquire(GcsStore(BUCKET), "two")


@pytest.mark.parametrize("seed", range(8))
def test_of_many_that_ask_a_failing_cloud_storage_one_gets_the_lease(cloud: StorageServer, seed: int) -> None:
    fate = random.Random(seed)
    cloud.faults = iter(fate.choices([None, 429, 503, "lost", "cut"], [4, 1, 1, 2, 1], k=200))

    def ask(number: int) -> Lease | None:
        store = GcsStore(BUCKET)
        while True:
            try:
                return Lease.acquire(store, STREAM, f"host:{number}", LONG_SECONDS)
            except LeaseHeldError:
                return None
            except StateError:
                continue

    with ThreadPoolExecutor(8) as pool:
        held = [lease for lease in pool.map(ask, range(8)) if lease is not None]
    state = read_state(GcsStore(BUCKET), STREAM)
    assert state is not None
    assert [(lease.epoch, lease.state.holder) for lease in held] == [(1, state.holder)]


# In any order


class Publishers(RuleBasedStateMachine):
    """Publishers that ask, renew, release, pause and die in any order, also between each other's read and write.

    Any answer may be lost. Each of the three is one replay after the other, and each replay has a name of its own.
    """

    holders = st.sampled_from(["one", "two", "three"])
    losses = st.sampled_from([None, StateConflictError, StateError])
    interruptions = st.none() | st.tuples(st.sampled_from(["acquire", "checkpoint", "release"]), holders)

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self._patch = self.clock.installed()
        self._patch.__enter__()
        self.store = CrowdedStore()
        self.leases: dict[str, Lease] = {}
        self.asking: dict[str, str] = {}
        self.replays = itertools.count()
        self.epochs: list[int] = []

    def teardown(self) -> None:
        self._patch.__exit__(None, None, None)

    def _do(self, what: str, holder: str) -> None:
        if what == "acquire":
            self._acquire(holder)
        elif holder in self.leases:
            self._use(what, holder)

    def _acquire(self, holder: str) -> None:
        name = self.asking.setdefault(holder, f"{holder}:{next(self.replays)}")
        try:
            lease = Lease.acquire(self.store, STREAM, name, SECONDS)
        except (LeaseHeldError, StateError):
            return
        del self.asking[holder]
        self.leases[holder] = lease
        self.epochs.append(lease.epoch)

    def _use(self, what: str, holder: str) -> None:
        lease = self.leases[holder]
        try:
            if what == "release":
                lease.release(Status.STOPPED)
            else:
                lease.checkpoint()
        except LeaseLostError:
            self.leases.pop(holder)
        except StateError:
            pass  # as the keeper does: it goes on, while the lease holds

    @rule(
        what=st.sampled_from(["acquire", "checkpoint", "release"]),
        holder=holders,
        interruption=interruptions,
        lost=losses,
    )
    def somebody_acts(
        self, what: str, holder: str, interruption: tuple[str, str] | None, lost: type[StateError] | None
    ) -> None:
        # A publisher does one thing at a time: only another one can come between.
        if interruption is not None and interruption[1] != holder:
            self.store.between = lambda: self._do(*interruption)
        self.store.lost = lost
        self._do(what, holder)
        self.store.between = self.store.lost = None

    @rule(seconds=st.floats(0.1, 2 * SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.clock.elapsed += seconds

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def somebody_dies_and_is_fenced_off(self, data: st.DataObject) -> None:
        dead = self.leases.pop(data.draw(st.sampled_from(sorted(self.leases))))
        release_dead(self.store, STREAM, dead.epoch)

    @invariant()
    def nobody_publishes_beside_another(self) -> None:
        live = [holder for holder, lease in self.leases.items() if lease.is_live()]
        assert len(live) <= 1, live

    @invariant()
    def who_publishes_is_who_the_document_names(self) -> None:
        for lease in self.leases.values():
            if lease.is_live():
                assert (_state(self.store).holder, _state(self.store).epoch) == (lease.state.holder, lease.epoch)

    @invariant()
    def no_epoch_is_given_twice(self) -> None:
        assert len(set(self.epochs)) == len(self.epochs)


Publishers.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
TestPublishers = Publishers.TestCase
