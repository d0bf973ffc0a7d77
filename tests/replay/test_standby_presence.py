"""That a standby is there: it says so while it waits, and no more once it has taken over."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from rejeu.jobs.build import standby_request
from rejeu.jobs.request import ReplayRequest
from rejeu.replay import standby as standby_module
from rejeu.replay.standby import Standby
from rejeu.state import Rhythm
from rejeu.state.lease import Lease
from rejeu.state.lease_watch import LeaseWatch
from rejeu.state.model import Status
from rejeu.state.standby_marker import RENEWALS_MISSED, stands_by
from rejeu.timeline import parse_instant
from tests.fakes.breaking_store import Store
from tests.replay.rows import STREAM

LEASE = 3.0
LONG = 60.0
REQUEST = ReplayRequest.of(
    topic="projects/p/topics/t", stream=STREAM, file="unused", event_time="at", state="sqlite:unused"
)


class Clock:
    """The clocks of a standby: `seconds` go by when a test says so, and the wall clock may be stepped beside them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.began, self.seconds, self.stepped = datetime.now(UTC), 0.0, 0.0
        patch.setattr(standby_module, "datetime", self)
        patch.setattr(standby_module, "elapsed", lambda: 1000 + self.seconds, raising=False)

    def now(self, zone: object) -> datetime:
        return self.began + timedelta(seconds=self.seconds + self.stepped)


@pytest.fixture
def standby(store: Store, monkeypatch: pytest.MonkeyPatch) -> Standby:
    """One whose source is empty."""
    monkeypatch.setattr(standby_module, "read_chunks", lambda request, start: iter(()))
    rhythm = Rhythm(checkpoint_seconds=0, lease_seconds=LEASE)
    return Standby(standby_request(REQUEST), store, rhythm, "standby")


def hold(store: Store, who: str = "holder") -> Lease:
    return Lease.acquire(store, STREAM, who, LONG)


def is_there(store: Store) -> bool:
    return stands_by(store, STREAM, datetime.now(UTC))


def times(number: int) -> Callable[[], bool]:
    """Goes on so many times."""
    left = itertools.count(number, -1)
    return lambda: next(left) > 0


def test_it_says_that_it_stands_by_once_it_does(store: Store, standby: Standby) -> None:
    hold(store)
    assert not is_there(store)
    with standby:
        assert standby.wait(times(1), lambda _: hold(store)) is None
    assert is_there(store)


def test_it_says_so_also_before_the_stream_ever_ran(store: Store, standby: Standby) -> None:
    with standby:
        standby.wait(times(1), lambda _: hold(store))
    assert is_there(store)


def test_it_says_so_once_a_lease_and_is_believed_for_three(
    store: Store, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(store)
    clock = Clock(monkeypatch)
    said: set[float] = set()
    goes_on_so_long = times(15)

    def goes_on() -> bool:
        found = store.load(f"{STREAM}.standby")
        if found is not None:
            said.add((parse_instant(found.document["until"]) - clock.began).total_seconds())
        clock.seconds += 0.5
        return goes_on_so_long()

    with standby:
        standby.wait(goes_on, lambda _: hold(store))
    assert sorted(said) == [at + RENEWALS_MISSED * LEASE for at in (0.5, 0.5 + LEASE, 0.5 + 2 * LEASE)]


@pytest.mark.parametrize("step", [-3600, -60, -LEASE, -1, 1, LEASE, 60, 3600])
def test_a_clock_that_is_stepped_keeps_it_neither_from_saying_so_nor_lets_it_be_believed_for_longer(
    store: Store, standby: Standby, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    hold(store)
    clock = Clock(monkeypatch)
    said: dict[int, float] = {}
    looks = itertools.count()
    ahead: list[float] = []

    def goes_on() -> bool:
        if (found := store.load(f"{STREAM}.standby")) is not None:
            said.setdefault(found.version, clock.seconds)
            ahead.append((parse_instant(found.document["until"]) - clock.now(UTC)).total_seconds())
        clock.seconds += 0.5
        if (look := next(looks)) == 20:
            clock.stepped = step
        return look < 40

    with standby:
        standby.wait(goes_on, lambda _: hold(store))
    times_said = [*said.values(), clock.seconds]
    assert max(later - before for before, later in itertools.pairwise(times_said)) <= LEASE + 0.5
    assert min(ahead) > (RENEWALS_MISSED - 2) * LEASE
    assert max(ahead) < (RENEWALS_MISSED + 1) * LEASE


def test_one_that_took_over_stands_by_no_more(store: Store, standby: Standby) -> None:
    lease = hold(store)
    with standby:
        standby.wait(times(1), lambda _: hold(store))
        lease.release(Status.FAILED)
        assert is_there(store)
        assert standby.wait(times(1), lambda _: hold(store, "standby")) is not None
    assert not is_there(store)


def test_it_takes_over_also_where_it_can_say_nothing_any_more(store: Store, standby: Standby) -> None:
    hold(store).release(Status.FAILED)

    def with_its_last_word(_: LeaseWatch) -> Lease:
        lease = hold(store, "standby")
        store.broken = True
        return lease

    with standby:
        found = standby.wait(times(1), with_its_last_word)
    assert found is not None
    assert found[0].epoch == 2
