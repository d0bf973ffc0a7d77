"""Ordering keys: one request of a key at a time, each key at its own pace, and none in another's way."""

import random
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest

from rejeu.replay.send import key_queues as lanes_module
from rejeu.replay.send.key_queues import KEY_BYTES_PER_SECOND, KeyQueues
from tests.fakes.monotonic import FakeTime

SECONDS = 20.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    return FakeTime(monkeypatch, lanes_module)


class SenderRig:
    """KeyQueues, and which requests were let go, with the wait that each was given."""

    def __init__(self) -> None:
        self.lanes = KeyQueues()
        self.gone: list[tuple[str, float]] = []

    def enter(self, key: str, name: str, size: int = 0) -> None:
        self.lanes.enter(key, size, lambda seconds: self.gone.append((name, seconds)))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.gone]


@pytest.fixture
def rig(time: FakeTime) -> SenderRig:
    return SenderRig()


def test_the_first_request_of_a_key_goes_at_once(rig: SenderRig) -> None:
    rig.enter("a", "a1", size=10 * KEY_BYTES_PER_SECOND)
    assert rig.gone == [("a1", 0.0)]


def test_a_request_goes_once_the_one_before_it_has_arrived_and_in_the_order_of_entering(rig: SenderRig) -> None:
    for number in range(1, 4):
        rig.enter("a", f"a{number}")
    assert rig.names == ["a1"]
    rig.lanes.leave("a")
    assert rig.names == ["a1", "a2"]
    rig.lanes.leave("a")
    assert rig.names == ["a1", "a2", "a3"]


def test_a_request_that_does_not_arrive_holds_up_its_own_key_alone(rig: SenderRig) -> None:
    for number in range(1, 4):
        rig.enter("failing", f"failing{number}")
        rig.enter("other", f"other{number}")
        rig.lanes.leave("other")
    assert rig.names == ["failing1", "other1", "other2", "other3"]


def test_a_key_that_was_done_with_begins_anew(rig: SenderRig) -> None:
    for number in range(3):
        rig.enter("a", f"a{number}")
        rig.lanes.leave("a")
    assert rig.names == ["a0", "a1", "a2"]


def test_a_key_gets_no_more_than_pubsub_takes_of_it_in_a_second(time: FakeTime, rig: SenderRig) -> None:
    for number in range(3):
        rig.enter("a", f"a{number}", size=KEY_BYTES_PER_SECOND // 2)
    rig.enter("b", "b0", size=KEY_BYTES_PER_SECOND)
    rig.lanes.leave("a")
    time.seconds += 0.75  # the second one went after half a second, and took a quarter to arrive
    rig.lanes.leave("a")
    assert rig.gone == [("a0", 0.0), ("b0", 0.0), ("a1", 0.5), ("a2", pytest.approx(0.25))]


def test_time_in_which_nothing_was_sent_is_not_made_up_for(time: FakeTime, rig: SenderRig) -> None:
    rig.enter("a", "a0", size=KEY_BYTES_PER_SECOND)
    time.seconds += 100
    rig.lanes.leave("a")
    for number in (1, 2):
        rig.enter("a", f"a{number}", size=KEY_BYTES_PER_SECOND)
    rig.lanes.leave("a")
    assert rig.gone == [("a0", 0.0), ("a1", 0.0), ("a2", 1.0)]


def test_a_key_that_comes_back_too_soon_is_held_to_its_pace(time: FakeTime, rig: SenderRig) -> None:
    rig.enter("a", "a0", size=KEY_BYTES_PER_SECOND)
    rig.lanes.leave("a")
    time.seconds += 0.25
    rig.enter("a", "a1")
    assert rig.gone == [("a0", 0.0), ("a1", 0.75)]


def test_keys_that_are_gone_for_good_are_forgotten(time: FakeTime, rig: SenderRig) -> None:
    """A replay may have a million keys, one row each."""
    for number in range(20_000):
        rig.enter(f"user{number}", "row", size=100)
        rig.lanes.leave(f"user{number}")
        time.seconds += 0.0001
    assert len(rig.lanes) <= lanes_module.FEW
    assert len(rig.gone) == 20_000


def test_order_is_kept_per_key_whichever_threads_bring_the_answers() -> None:
    lanes, gone, changed = KeyQueues(), defaultdict[str, list[int]](list), threading.Condition()
    chance, under_way = random.Random(7), defaultdict[str, int](int)

    with ThreadPoolExecutor(4) as answers:

        def go(key: str, number: int) -> None:
            with changed:
                under_way[key] += 1
                assert under_way[key] == 1
                gone[key].append(number)
            answers.submit(arrive, key)

        def arrive(key: str) -> None:
            with changed:
                under_way[key] -= 1
                changed.notify_all()
            lanes.leave(key)

        for number in range(2_000):
            key = chance.choice("abc")
            lanes.enter(key, 0, lambda _, key=key, number=number: go(key, number))  # type: ignore[misc]
        with changed:
            assert changed.wait_for(lambda: sum(map(len, gone.values())) == 2_000, SECONDS)
    assert all(numbers == sorted(numbers) for numbers in gone.values())
