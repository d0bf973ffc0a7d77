"""Presence: somebody stands by until the instant it said last, and the stream's own document knows nothing of it."""

from datetime import timedelta

import pytest

from rejeu.errors import StateError
from rejeu.state.lease import Lease, read_state
from rejeu.state.standby_marker import mark_standby, stands_by
from rejeu.timeline import MICROSECOND, parse_instant
from tests.fakes.crowded_store import CrowdedStore

NOW = parse_instant("2026-11-20T12:00:00Z")
SECOND = timedelta(seconds=1)


@pytest.fixture
def store() -> CrowdedStore:
    return CrowdedStore()


def test_nobody_stands_by_who_never_said_so(store: CrowdedStore) -> None:
    assert not stands_by(store, "clicks", NOW)


def test_somebody_stands_by_until_the_instant_it_named(store: CrowdedStore) -> None:
    mark_standby(store, "clicks", "host:7", NOW)
    assert stands_by(store, "clicks", NOW - MICROSECOND)
    assert not stands_by(store, "clicks", NOW)


def test_whoever_says_it_last_is_believed(store: CrowdedStore) -> None:
    mark_standby(store, "clicks", "host:7", NOW + SECOND)
    mark_standby(store, "clicks", "host:8", NOW)
    assert not stands_by(store, "clicks", NOW)


def test_who_stands_by_for_another_stream_is_not_present(store: CrowdedStore) -> None:
    mark_standby(store, "clicks-0-of-2", "host:7", NOW)
    assert not stands_by(store, "clicks", NOW - SECOND)


def test_the_streams_own_document_is_its_holders(store: CrowdedStore) -> None:
    lease = Lease.acquire(store, "clicks", "host:7", 3.0)
    mark_standby(store, "clicks", "host:8", NOW)
    lease.checkpoint()
    assert read_state(store, "clicks") == lease.state


def test_another_one_that_says_so_at_once_is_no_trouble(store: CrowdedStore) -> None:
    store.between = lambda: mark_standby(store, "clicks", "host:8", NOW)
    mark_standby(store, "clicks", "host:7", NOW + SECOND)
    assert stands_by(store, "clicks", NOW - SECOND)


def test_a_store_that_cannot_be_written_is_told_of(store: CrowdedStore) -> None:
    store.lost = StateError
    with pytest.raises(StateError):
        mark_standby(store, "clicks", "host:7", NOW)
