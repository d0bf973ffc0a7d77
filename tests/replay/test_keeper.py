"""The keeper: checkpoints while it can, word of what others wish, and an error once it cannot go on."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rejeu.errors import LeaseLostError, RejeuError, StateError
from rejeu.replay.keeper import Keeper
from rejeu.state.lease import Lease, read_state
from rejeu.state.model import Status, StreamState
from rejeu.state.stream import mark_unwanted, set_pace
from rejeu.testing import MemoryStore
from rejeu.timeline import Position
from tests.state.fencing import fence_off

STREAM = "clicks"
EVERY = 0.005
SECONDS = 10.0


class ShakyStore(MemoryStore):
    """Cannot be written while `broken`; says how often that was tried."""

    broken = False

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0
        self.changed = threading.Condition()

    def save(self, name: str, document: dict[str, Any], expected: int | None) -> int:
        with self.changed:
            self.changed.notify_all()
            if self.broken:
                self.refused += 1
                raise StateError("state store: disk full")
            return super().save(name, document, expected)

    def wait_for(self, true: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(true, SECONDS)


@pytest.fixture
def store() -> ShakyStore:
    return ShakyStore()


@pytest.fixture
def lease(store: ShakyStore) -> Lease:
    return Lease.acquire(store, STREAM, "host:7", 60.0)


def keeper(
    lease: Lease,
    reached: Callable[[], dict[str, Any]] = dict,
    on_state: Callable[[StreamState], None] = lambda state: None,
    patience: float = SECONDS,
) -> Keeper:
    return Keeper(lease, reached, on_state, every=EVERY, patience=patience)


def end_of(made: Keeper) -> Keeper:
    """The same keeper, once it gave up."""
    with made:
        made._thread.join(SECONDS)
    return made


def test_what_was_reached_is_saved_and_the_replay_is_running(store: ShakyStore, lease: Lease) -> None:
    positions = iter(Position(number) for number in range(10**6))
    with keeper(lease, lambda: {"cursor": next(positions)}) as made:
        store.wait_for(lambda: lease.state.cursor is not None and lease.state.cursor > Position(2))
    state = read_state(store, STREAM)
    assert state is not None
    assert (state.status, made.error) == (Status.RUNNING, None)
    assert state.cursor == lease.state.cursor


def test_what_others_ask_for_comes_with_the_next_checkpoint(store: ShakyStore, lease: Lease) -> None:
    seen: list[tuple[bool, bool, object]] = []
    changed = threading.Condition()

    def on_state(state: StreamState) -> None:
        with changed:
            seen.append((state.wanted, state.paused, state.speed))
            changed.notify_all()

    with keeper(lease, on_state=on_state), changed:
        assert changed.wait_for(lambda: (True, False, None) in seen, SECONDS)
        set_pace(store, STREAM, paused=True, speed=60.0)
        assert changed.wait_for(lambda: (True, True, 60.0) in seen, SECONDS)
        mark_unwanted(store, STREAM)
        assert changed.wait_for(lambda: (False, True, 60.0) in seen, SECONDS)


def test_a_checkpoint_that_could_not_be_made_passes_nothing_on(store: ShakyStore, lease: Lease) -> None:
    seen: list[StreamState] = []
    store.broken = True
    with keeper(lease, on_state=seen.append):
        store.wait_for(lambda: store.refused >= 3)
        assert seen == []


def test_what_the_callback_raises_ends_it(lease: Lease) -> None:
    def on_state(state: StreamState) -> None:
        raise RejeuError("enough")

    assert str(end_of(keeper(lease, on_state=on_state)).error) == "enough"


def test_a_lost_lease_ends_it(store: ShakyStore, lease: Lease) -> None:
    fence_off(store, STREAM, lease.epoch)
    made = end_of(keeper(lease))
    assert isinstance(made.error, LeaseLostError)


def test_a_store_that_fails_for_a_while_is_tried_again_and_told_once(
    store: ShakyStore, lease: Lease, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store.broken = True
    with keeper(lease, lambda: {"cursor": Position(5)}) as made:
        store.wait_for(lambda: store.refused >= 3)
        store.broken = False
        store.wait_for(lambda: lease.state.cursor == Position(5))
    assert made.error is None
    assert caplog.messages == ["state store: disk full; trying again for 10 s"]


def test_a_store_that_fails_for_too_long_ends_it(store: ShakyStore, lease: Lease) -> None:
    store.broken = True
    made = end_of(keeper(lease, patience=4 * EVERY))
    assert str(made.error) == "state store: disk full"
    assert store.refused > 1


def test_whatever_else_it_meets_ends_it_with_an_error(lease: Lease, caplog: pytest.LogCaptureFixture) -> None:
    def reached() -> dict[str, Any]:
        raise ZeroDivisionError("somewhere deep")

    made = end_of(keeper(lease, reached))
    assert str(made.error) == "checkpoints failed: ZeroDivisionError: somewhere deep: see the log above"
    assert "Traceback" in caplog.text
