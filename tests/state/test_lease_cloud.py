"""The lease on Cloud Storage, whose answers come late, twice or never."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from rejeu.errors import LeaseHeldError, StateError
from rejeu.state import gcs
from rejeu.state.gcs import GcsStore
from rejeu.state.lease import Lease, read_state
from rejeu.state.model import Status
from rejeu.timeline import Position
from tests.fakes.storage_server import BUCKET, StorageServer

pytestmark = pytest.mark.emulated

STREAM = "clicks"
SECONDS = 3.0
LONG_SECONDS = 300.0


def acquire(store: GcsStore, holder: str = "one") -> Lease:
    return Lease.acquire(store, STREAM, holder, SECONDS)


def test_a_replay_does_not_meet_itself_on_cloud_storage(cloud: StorageServer) -> None:
    store = GcsStore(BUCKET, "state")
    cloud.faults = iter([None, None, "lost"])
    lease = acquire(store)
    cloud.faults = iter([None, "lost"])
    lease.checkpoint(cursor=Position(7))
    assert lease.epoch == 1
    cloud.faults = iter([None, "lost"])
    lease.release(Status.STOPPED)
    state = acquire(store, "two").state
    assert (state.epoch, state.cursor) == (2, Position(7))


def test_a_replay_that_was_told_nothing_asks_cloud_storage_again(
    cloud: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs, "RETRY_SECONDS", 0.0)
    cloud.faults = iter([None, None, "lost"])
    with pytest.raises(StateError):
        acquire(GcsStore(BUCKET, "state"))
    assert acquire(GcsStore(BUCKET, "state")).epoch == 1
    with pytest.raises(LeaseHeldError):
        acquire(GcsStore(BUCKET, "state"), "two")


@pytest.mark.parametrize("seed", range(8))
def test_of_many_that_ask_a_failing_cloud_storage_one_gets_the_lease(cloud: StorageServer, seed: int) -> None:
    fate = random.Random(seed)
    cloud.faults = iter(fate.choices([None, 429, 503, "lost", "cut"], [4, 1, 1, 2, 1], k=200))

    def ask(number: int) -> Lease | None:
        store = GcsStore(BUCKET, "state")
        while True:
            try:
                return Lease.acquire(store, STREAM, f"host:{number}", LONG_SECONDS)
            except LeaseHeldError:
                return None
            except StateError:
                continue

    with ThreadPoolExecutor(8) as pool:
        held = [lease for lease in pool.map(ask, range(8)) if lease is not None]
    state = read_state(GcsStore(BUCKET, "state"), STREAM)
    assert state is not None
    assert [(lease.epoch, lease.state.holder) for lease in held] == [(1, state.holder)]
