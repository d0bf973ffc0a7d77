"""The launch lock: one holder at a time, a task takes over its own lock, and a dead worker's lock runs out."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from threading import Event

import pytest

from rejeu.errors import LaunchError, StateConflictError, StateError
from rejeu.state import launch_lock
from rejeu.state.launch_lock import LOCK_TIME, POLL_SECONDS, LaunchLock, hold_launch_lock
from rejeu.state.lease import Lease, read_state
from tests.fakes.crowded_store import Clock, CrowdedStore

STREAM = "clicks"
LIVE, WATCHDOG = "run-1/start_replay", "run-2/relaunch"

Sleep = Callable[[float], None]
Take = Callable[[str], AbstractContextManager[LaunchLock]]


@pytest.fixture
def store() -> CrowdedStore:
    return CrowdedStore()


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    with made.installed(launch_lock):
        yield made


@pytest.fixture
def sleep(clock: Clock) -> Sleep:
    """Waits by letting the clock go by."""

    def go_by(seconds: float) -> None:
        clock.elapsed += seconds

    return go_by


@pytest.fixture
def take(store: CrowdedStore, clock: Clock) -> Take:
    """Takes the lock at once and keeps it, as one does that is slow or dies."""
    kept: list[AbstractContextManager[LaunchLock]] = []

    def enter(who: str) -> AbstractContextManager[LaunchLock]:
        kept.append(hold_launch_lock(store, STREAM, who, never))
        kept[-1].__enter__()
        return kept[-1]

    return enter


def never(seconds: float) -> None:
    """Waits for nothing, as one must who has the lock at once."""
    raise AssertionError(f"waited {seconds} s")


def test_whoever_comes_alone_has_the_lock_at_once(store: CrowdedStore, clock: Clock) -> None:
    for who in (LIVE, WATCHDOG, LIVE):
        with hold_launch_lock(store, STREAM, who, never):
            pass


def test_a_lock_is_waited_for_until_it_is_released(store: CrowdedStore, take: Take) -> None:
    waited: list[float] = []
    first = take(LIVE)

    def until_it_is_over(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            first.__exit__(None, None, None)

    with hold_launch_lock(store, STREAM, WATCHDOG, until_it_is_over):
        assert waited == [POLL_SECONDS] * 3


def test_a_lock_is_released_by_one_that_fails(store: CrowdedStore, clock: Clock) -> None:
    with pytest.raises(LaunchError, match="no memory"), hold_launch_lock(store, STREAM, LIVE, never):
        raise LaunchError("no memory")
    with hold_launch_lock(store, STREAM, WATCHDOG, never):
        pass


def test_the_next_try_of_a_task_goes_on_with_its_lock(store: CrowdedStore, take: Take) -> None:
    take(LIVE)
    with hold_launch_lock(store, STREAM, LIVE, never):
        pass


def test_the_lock_of_a_worker_that_died_runs_out(store: CrowdedStore, clock: Clock, sleep: Sleep, take: Take) -> None:
    take(LIVE)
    with hold_launch_lock(store, STREAM, WATCHDOG, sleep):
        assert clock.elapsed == pytest.approx(LOCK_TIME.total_seconds(), abs=POLL_SECONDS)


def test_one_that_lives_keeps_the_lock_however_long_it_takes(
    store: CrowdedStore, clock: Clock, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_lock, "RENEW_SECONDS", 0.001)
    slow = take(LIVE)
    for _ in range(3):
        clock.elapsed += LOCK_TIME.total_seconds() - 1
        for _ in range(2):  # when the second renewal begins, the first one is made
            begun = Event()
            store.between = begun.set
            assert begun.wait(10)
    with pytest.raises(AssertionError, match="waited"):
        take(WATCHDOG)
    slow.__exit__(None, None, None)
    take(WATCHDOG).__exit__(None, None, None)


def test_a_store_that_fails_for_a_while_does_not_end_the_renewing(
    store: CrowdedStore, clock: Clock, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_lock, "RENEW_SECONDS", 0.001)
    slow = take(LIVE)
    for lost in (StateError, StateConflictError, StateError):
        begun = Event()
        store.between, store.lost = begun.set, lost
        assert begun.wait(10)
    slow.__exit__(None, None, None)


def test_a_lock_that_is_still_ours_is_confirmed(store: CrowdedStore, clock: Clock) -> None:
    with hold_launch_lock(store, STREAM, LIVE, never) as lock:
        clock.elapsed += LOCK_TIME.total_seconds() + 1
        lock.confirm()
        with pytest.raises(AssertionError, match="waited"), hold_launch_lock(store, STREAM, WATCHDOG, never):
            pass


@pytest.mark.parametrize("over", [True, False])
def test_a_lock_that_another_one_has_had_is_not_confirmed(
    store: CrowdedStore, clock: Clock, take: Take, over: bool
) -> None:
    with hold_launch_lock(store, STREAM, LIVE, never) as lock:
        clock.elapsed += LOCK_TIME.total_seconds() + 1
        other = take(WATCHDOG)
        if over:
            other.__exit__(None, None, None)
        with pytest.raises(LaunchError, match=f"clicks: {LIVE} no longer holds the launch lock: .*run this task again"):
            lock.confirm()


def test_who_took_too_long_does_not_release_another_ones_lock(store: CrowdedStore, sleep: Sleep, take: Take) -> None:
    slow = take(LIVE)
    with hold_launch_lock(store, STREAM, WATCHDOG, sleep):
        slow.__exit__(None, None, None)
        with pytest.raises(AssertionError, match="waited"):
            take("run-3/stop_replay")


def test_somebody_else_who_comes_to_no_end_is_an_error(
    store: CrowdedStore, clock: Clock, sleep: Sleep, take: Take
) -> None:
    def while_another_begins_again_and_again(seconds: float) -> None:
        sleep(seconds)
        take(LIVE)

    take(LIVE)
    with (
        pytest.raises(LaunchError, match=f"clicks: {LIVE} has been starting or stopping its replays for too"),
        hold_launch_lock(store, STREAM, WATCHDOG, while_another_begins_again_and_again),
    ):
        pass
    assert clock.elapsed == pytest.approx(2 * LOCK_TIME.total_seconds(), abs=2 * POLL_SECONDS)


def test_of_two_that_ask_at_once_one_waits(store: CrowdedStore, clock: Clock, sleep: Sleep, take: Take) -> None:
    store.between = lambda: take(LIVE)
    with hold_launch_lock(store, STREAM, WATCHDOG, sleep):
        assert clock.elapsed == pytest.approx(LOCK_TIME.total_seconds(), abs=POLL_SECONDS)


def test_one_whose_answer_was_lost_finds_that_it_has_the_lock(store: CrowdedStore, clock: Clock, sleep: Sleep) -> None:
    store.lost = StateConflictError
    with hold_launch_lock(store, STREAM, LIVE, sleep):
        assert clock.elapsed == POLL_SECONDS


def test_a_store_that_cannot_be_used_is_told_of(store: CrowdedStore, clock: Clock) -> None:
    store.lost = StateError
    with pytest.raises(StateError), hold_launch_lock(store, STREAM, LIVE, never):
        pass


def test_streams_do_not_wait_for_each_other(store: CrowdedStore, clock: Clock) -> None:
    with hold_launch_lock(store, STREAM, LIVE, never), hold_launch_lock(store, "machines", LIVE, never):
        pass


def test_a_lock_changes_nothing_in_the_streams_own_document(store: CrowdedStore, clock: Clock) -> None:
    lease = Lease.acquire(store, STREAM, "host:7", 3.0)
    with hold_launch_lock(store, STREAM, LIVE, never):
        lease.checkpoint()
    assert read_state(store, STREAM) == lease.state
