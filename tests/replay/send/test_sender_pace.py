"""The sender's pace while it runs: paused, faster, slower; its place is kept, and no row early or left out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejeu.replay.chunk import Chunk
from rejeu.replay.send.sender import TICK_SECONDS
from rejeu.timeline import Position, Timeline, from_us, to_us
from tests.fakes.replay_clock import NOW, SECOND
from tests.replay.rows import T0
from tests.replay.send.sender_rig import SenderRig, rows

HOUR = 3600 * SECOND
TICK_US = round(TICK_SECONDS * SECOND) + 10


def sent_at(rig: SenderRig) -> list[float]:
    """When each request was sent, in seconds from the beginning."""
    return [us / SECOND for us, _ in rig.sent]


# Paused


def test_in_a_pause_nothing_is_sent_and_afterwards_what_was_due_next_is_due_as_long_as_it_still_was() -> None:
    rig, chunk = SenderRig(), rows(0, 10, 20)
    at = rig.send_for(chunk, 0, 4)
    rig.sender.pace(1.0, paused=True)
    at = rig.send_for(chunk, at, 100)
    assert sent_at(rig) == [0]
    rig.sender.pace(1.0, paused=False)
    rig.send_all(chunk, at)
    assert sent_at(rig) == pytest.approx([0, 110, 120], abs=0.01)


def test_rows_are_not_late_by_the_pause_they_waited_for() -> None:
    rig, chunk = SenderRig(), rows(0, 10)
    at = rig.send_for(chunk, 0, 4)
    rig.sender.pace(1.0, paused=True)
    at = rig.send_for(chunk, at, 100)
    rig.sender.pace(1.0, paused=False)
    rig.send_all(chunk, at)
    lateness = rig.sender.lateness.milliseconds()
    assert lateness is not None
    assert lateness["max"] < 1


def test_in_a_pause_nothing_is_due_and_a_person_is_told() -> None:
    rig, chunk = SenderRig(), rows(0, 10)
    at = rig.send_for(chunk, 0, 4)
    rig.publisher.acknowledge()
    rig.sender.pace(1.0, paused=True)
    at = rig.send_for(chunk, at, 1)
    assert rig.sender.reached()["next_due"] is None
    assert rig.sender.describe() == "clicks: 1 rows published, paused, cursor 2021-05-01T00:00:00.000000Z (+1)"
    rig.sender.pace(1.0, paused=False)
    rig.sender.send(chunk, at)
    assert rig.sender.reached()["next_due"] == from_us(NOW + 11 * SECOND)
    assert "paused" not in rig.sender.describe()


def test_a_pause_before_the_first_row_lasts_until_it_is_ended() -> None:
    rig, chunk = SenderRig(paused=True), rows(0, 10)
    assert rig.send_for(chunk, 0, 100) == 0
    assert rig.sender.reached()["next_due"] is None
    rig.sender.pace(1.0, paused=False)
    rig.send_all(chunk)
    assert sent_at(rig) == pytest.approx([100, 110], abs=0.01)


def test_at_speed_max_too_a_pause_is_a_pause() -> None:
    rig = SenderRig(speed=None)
    rig.send_all(rows(0, 10))
    rig.sender.pace(None, paused=True)
    rest = rows(20, 30)
    assert rig.send_for(rest, 0, 100) == 0
    rig.sender.pace(None, paused=False)
    rig.send_all(rest)
    assert rig.sent == [(0, [b"0", b"1"]), (pytest.approx(100 * SECOND), [b"0", b"1"])]


# Another speed


def test_faster_is_faster_from_here_on() -> None:
    rig, chunk = SenderRig(speed=1.0), rows(0, 60, 120)
    at = rig.send_for(chunk, 0, 10)
    rig.sender.pace(10.0, paused=False)
    rig.send_all(chunk, at)
    assert sent_at(rig) == pytest.approx([0, 15, 21], abs=0.01)


def test_slower_is_slower_from_here_on() -> None:
    rig, chunk = SenderRig(speed=10.0), rows(0, 60, 120)
    at = rig.send_for(chunk, 0, 4)
    rig.sender.pace(1.0, paused=False)
    rig.send_all(chunk, at)
    assert sent_at(rig) == pytest.approx([0, 24, 84], abs=0.05)


def test_to_max_nothing_is_waited_for_and_back_the_pace_begins_with_the_next_row() -> None:
    rig, chunk = SenderRig(speed=1.0), rows(0, 10)
    at = rig.send_for(chunk, 0, 5)
    rig.sender.pace(None, paused=False)
    rig.send_all(chunk, at)
    assert sent_at(rig) == pytest.approx([0, 5], abs=0.01)
    rig.sender.pace(1.0, paused=False)
    rig.send_all(rows(20, 30))
    assert sent_at(rig) == pytest.approx([0, 5, 5, 15], abs=0.01)


def test_a_speed_that_changes_in_a_pause_counts_once_the_pause_ends() -> None:
    rig, chunk = SenderRig(speed=1.0), rows(0, 10)
    at = rig.send_for(chunk, 0, 4)
    for speed in (1.0, 60.0, 2.0):
        rig.sender.pace(speed, paused=True)
        at = rig.send_for(chunk, at, 50)
    rig.sender.pace(2.0, paused=False)
    rig.send_all(chunk, at)
    assert sent_at(rig) == pytest.approx([0, 157], abs=0.01)


def test_a_pause_and_a_speed_may_be_wished_for_at_once_and_ended_at_once() -> None:
    rig, chunk = SenderRig(speed=1.0), rows(0, 10)
    at = rig.send_for(chunk, 0, 4)
    rig.sender.pace(2.0, paused=True)
    at = rig.send_for(chunk, at, 100)
    rig.sender.pace(3.0, paused=False)
    rig.send_all(chunk, at)
    assert sent_at(rig) == pytest.approx([0, 106], abs=0.01)


def test_a_speed_that_is_changed_before_the_first_row_is_its_speed() -> None:
    rig = SenderRig(speed=1.0)
    rig.sender.pace(10.0, paused=False)
    rig.send_all(rows(0, 10))
    assert sent_at(rig) == pytest.approx([0, 1], abs=0.01)


def test_the_same_wish_again_changes_nothing() -> None:
    rig, chunk = SenderRig(speed=3.0), rows(0, 10, 20)
    rig.sender.send(chunk, 0)
    before = rig.sender.reached()["timeline"]
    at = 1
    while at < len(chunk):
        rig.sender.pace(3.0, paused=False)
        at = rig.sender.send(chunk, at)
    assert rig.sender.reached()["timeline"] == before


WISHES = st.lists(
    st.tuples(st.floats(0.01, 30), st.sampled_from([0.3, 1.0, 7.0, 60.0]), st.booleans()), min_size=1, max_size=12
)


@given(WISHES, st.lists(st.floats(0, 100), min_size=1, max_size=40))
@settings(deadline=None, max_examples=200)
def test_whatever_is_wished_and_when_every_row_is_sent_once_in_order_and_on_time(
    wishes: list[tuple[float, float, bool]], seconds: list[float]
) -> None:
    chunk, rig = rows(*sorted(seconds)), SenderRig(speed=1.0)
    paces: list[tuple[int, float]] = []  # from when on, and how many event seconds a second
    at = 0
    for lasts, speed, paused in [*wishes, (1e9, 5.0, False)]:
        rig.sender.pace(speed, paused=paused)
        paces.append((rig.clock.us - NOW, 0.0 if paused else speed))
        at = rig.send_for(chunk, at, lasts)
    assert at == len(chunk)
    assert [body for _, bodies in rig.sent for body in bodies] == [b"%d" % n for n in range(len(chunk))]
    for us, bodies in rig.sent:
        first, last = (int(chunk.event_us[int(bodies[row])] - chunk.event_us[0]) for row in (0, -1))
        assert event_time(paces, us) >= last - 0.001, "a row came early"
        assert event_time(paces, us - TICK_US) <= first + 60, "a row came later than the tick before it and rounding"


def event_time(paces: list[tuple[int, float]], us: int) -> float:
    """How much event time (µs) has gone by, so many microseconds from the beginning."""
    ends = [*(start for start, _ in paces[1:]), us]
    return sum(
        max(0, min(end, us) - start) * speed for (start, speed), end in zip(paces, ends, strict=True) if start < us
    )


# A pause that another replay began


def resumed_after(rig: SenderRig, chunk: Chunk) -> float:
    """How long after a pause of 100 s the first row was sent."""
    assert rig.send_for(chunk, 0, 100) == 0
    rig.sender.pace(rig.sender._wanted_speed, paused=False)
    rig.send_all(chunk)
    return sent_at(rig)[0] - 100


def test_a_successor_goes_on_with_the_pause_where_time_stood_still() -> None:
    first, chunk = SenderRig(), rows(0, 10)
    at = first.send_for(chunk, 0, 4)
    first.publisher.acknowledge()
    first.sender.pace(1.0, paused=True)
    first.send_for(chunk, at, 50)
    timeline, cursor = first.sender.reached()["timeline"], first.sender.cursor
    for speed, expected in ((1.0, 6), (2.0, 3)):
        successor = SenderRig(speed=speed, start=cursor, timeline=timeline, paused=True)
        assert resumed_after(successor, chunk.part(1, 2)) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("speed", "expected"), [(1.0, 5), (10.0, 0.5)])
def test_a_pause_that_nobody_was_there_to_begin_holds_the_place_of_the_cursor(speed: float, expected: float) -> None:
    """The stream ran for an hour, its replay was gone, and then somebody paused it."""
    rig = SenderRig(speed=speed, start=Position(T0 + HOUR), timeline=Timeline(T0, NOW - HOUR, 1.0), paused=True)
    assert resumed_after(rig, rows(3605)) == pytest.approx(expected, abs=0.01)


def test_a_replay_that_begins_in_a_pause_owes_nothing() -> None:
    rig = SenderRig(start=Position(T0), timeline=Timeline(T0, NOW - HOUR, 1.0), paused=True)
    assert resumed_after(rig, rows(0, 10)) == pytest.approx(0, abs=0.01)
    assert rig.sender.reached()["owed"] == 0


def test_what_was_owed_is_owed_in_a_pause_too() -> None:
    rig, chunk = SenderRig(start=Position(T0), timeline=Timeline(T0, NOW - 10 * SECOND, 1.0)), rows(0, 4, 12)
    at = rig.sender.send(chunk, 0)
    rig.sender.pace(1.0, paused=True)
    at = rig.send_for(chunk, at, 100)
    rig.sender.pace(1.0, paused=False)
    rig.send_all(chunk, at)
    assert rig.sender.reached()["owed"] == 2
    assert sent_at(rig) == pytest.approx([0, 102], abs=0.01)


# Clocks


@pytest.mark.parametrize("seconds", [1, 60, 3600, -1, -60, -3600])
def test_a_stepped_clock_changes_no_pace_and_what_is_due_is_told_by_the_new_time(seconds: int) -> None:
    rig, chunk = SenderRig(), rows(0, 10, 20)
    at = rig.send_for(chunk, 0, 4)
    rig.publisher.acknowledge()
    rig.clock.step(seconds * SECOND)
    at = rig.send_for(chunk, at, 2)
    assert to_us(rig.sender.reached()["next_due"]) == NOW + (10 + seconds) * SECOND
    rig.send_all(chunk, at)
    assert sent_at(rig) == pytest.approx([0, 10 + seconds, 20 + seconds], abs=0.01)


@pytest.mark.parametrize("seconds", [15, 3600])
def test_rows_that_fell_due_in_a_suspend_go_at_once_and_the_rest_is_on_time(seconds: int) -> None:
    rig, chunk = SenderRig(), rows(0, 10, seconds + 10)
    at = rig.send_for(chunk, 0, 4)
    rig.clock.us += seconds * SECOND
    rig.send_all(chunk, at)
    assert sent_at(rig) == pytest.approx([0, 4 + seconds, seconds + 10], abs=0.3)
