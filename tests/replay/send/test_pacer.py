"""The clock that cannot step, and how late rows were by it."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejeu.replay.send import pacer
from rejeu.replay.send.pacer import Clock, Lateness
from rejeu.timeline import Timeline

SECOND = 1_000_000
REAL_TIME = Timeline(event_us=0, wall_us=0, speed=1.0)


def test_the_clock_begins_at_the_wall_clocks_time() -> None:
    before = time.time_ns() // 1000
    assert before - 1 <= Clock().now_us() <= time.time_ns() // 1000 + 1


def test_a_wall_clock_that_is_set_back_or_forth_does_not_move_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    before = clock.now_us()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert 0 <= clock.now_us() - before < 60 * SECOND


class Clocks:
    """Time of day and elapsed time, in seconds; a test sets them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.wall, self.elapsed = 1_000_000.0, 500.0
        patch.setattr(time, "time_ns", lambda: round(self.wall * 1e9))
        patch.setattr(pacer, "elapsed_ns", lambda: round(self.elapsed * 1e9))


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.mark.parametrize("seconds", [1, 30, 3600, -1, -30, -3600])
def test_a_clock_that_was_stepped_is_told_of_once_and_followed(clocks: Clocks, seconds: int) -> None:
    clock = Clock()
    clocks.wall += 10 + seconds
    clocks.elapsed += 10
    assert [clock.stepped_us(), clock.stepped_us()] == [seconds * SECOND, 0]
    assert clock.now_us() == round(clocks.wall * SECOND)


@pytest.mark.parametrize("seconds", [1, 30, 3600])
def test_a_suspend_is_time_that_went_by(clocks: Clocks, seconds: int) -> None:
    clock = Clock()
    clocks.wall += seconds
    clocks.elapsed += seconds
    assert clock.stepped_us() == 0
    assert clock.now_us() == round(clocks.wall * SECOND)


def test_a_clock_that_is_set_by_going_faster_is_not_stepped(clocks: Clocks) -> None:
    clock = Clock()
    clocks.wall += 0.1
    assert clock.stepped_us() == 0


def test_an_interruption_between_two_looks_is_no_step(clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def late() -> int:
        clocks.elapsed += 5
        clocks.wall += 5
        return round(clocks.wall * 1e9)

    monkeypatch.setattr(time, "time_ns", late)
    assert clock.stepped_us() == 0


def test_waiting_takes_the_time_that_was_asked_for() -> None:
    clock = Clock()
    before = clock.now_us()
    clock.wait(0.002)
    assert clock.now_us() - before >= 2_000


def test_nothing_is_late_at_speed_max() -> None:
    lateness = Lateness()
    lateness.add(Timeline(event_us=0, wall_us=0, speed=None), np.array([1, 2, 3]), now_us=10 * SECOND)
    assert lateness.milliseconds() is None


def test_lateness_is_counted_from_when_each_row_was_due() -> None:
    lateness = Lateness()
    lateness.add(REAL_TIME, np.array([0]), now_us=2_000)
    assert lateness.milliseconds() == {"p50": 2.0, "p99": 2.0, "max": 2.0}


def test_a_row_is_due_sooner_at_a_greater_speed() -> None:
    lateness = Lateness()
    lateness.add(Timeline(event_us=0, wall_us=0, speed=60.0), np.array([60 * SECOND]), now_us=SECOND + 5_000)
    assert lateness.milliseconds() == {"p50": 5.0, "p99": 5.0, "max": 5.0}


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=200))
def test_percentiles_are_right_to_three_percent_and_never_too_small(late: list[int]) -> None:
    lateness = Lateness()
    for us in late:
        lateness.add(REAL_TIME, np.array([0]), now_us=us)
    found = lateness.milliseconds()
    assert found is not None
    ordered = sorted(late)
    for name, share in (("p50", 0.50), ("p99", 0.99)):
        exact = ordered[max(0, -int(-share * len(late) // 1) - 1)] / 1000
        assert exact - 0.001 <= found[name] <= exact * 1.03 + 0.001, name
    assert found["max"] == ordered[-1] / 1000
