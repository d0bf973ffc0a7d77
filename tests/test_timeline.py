"""The clock of a replay: instants, hand-over, due times."""

from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejeu.errors import RequestError
from rejeu.timeline import (
    HandOver,
    Timeline,
    format_instant,
    from_us,
    hand_over_instant,
    parse_instant,
    to_us,
)

WALL_US = 1_800_000_000_000_000
YEAR_US = 366 * 24 * 3600 * 1_000_000
A_THOUSANDTH_OF_A_MICROSECOND = Fraction(1, 1000)
"""What a quotient of floats may be wrong by."""

instants = st.datetimes(timezones=st.just(UTC))
event_times = st.integers(0, 2**51)
speeds = st.floats(0.001, 100_000)
timelines = st.builds(
    Timeline, event_us=event_times, wall_us=st.integers(WALL_US, WALL_US + YEAR_US), speed=speeds | st.none()
)
paced = timelines.filter(lambda timeline: timeline.speed is not None)
distances = st.integers(-YEAR_US, YEAR_US)


# Instants


@given(instants)
def test_an_instant_survives_its_microseconds(instant: datetime) -> None:
    assert from_us(to_us(instant)) == instant


@given(instants)
def test_an_instant_survives_its_text(instant: datetime) -> None:
    text = format_instant(instant)
    assert parse_instant(text) == instant
    assert len(text) == len("2021-05-01T00:00:00.000000Z")


@given(instants, instants)
def test_the_texts_of_instants_sort_as_the_instants_do(one: datetime, other: datetime) -> None:
    assert (format_instant(one) < format_instant(other)) == (one < other)


@pytest.mark.parametrize(
    "text", ["2021-05-01T02:00:00+02:00", "2021-05-01T00:00:00Z", "2021-04-30T14:00:00-10:00", "20210501T000000Z"]
)
def test_every_zone_becomes_utc(text: str) -> None:
    instant = parse_instant(text)
    assert instant == datetime(2021, 5, 1, tzinfo=UTC)
    assert instant.tzinfo is UTC


def test_an_instant_of_another_zone_is_written_as_utc() -> None:
    instant = datetime(2021, 5, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert format_instant(instant) == "2021-05-01T00:00:00.000000Z"


@pytest.mark.parametrize("text", ["2021-05-01T00:00:00", "2021-05-01 00:00", "2021-05-01"])
def test_a_time_without_a_zone_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_instant(text)
    assert str(caught.value) == f"{text!r} has no time zone: end it with Z, or with an offset such as +02:00"


@pytest.mark.parametrize("text", ["yesterday", "", "2021-13-01T00:00:00Z", "1620000000", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_instant(text)
    assert str(caught.value) == f"{text!r} is not a time: write ISO 8601, such as 2021-05-01T00:00:00Z"


# Hand-over


@given(st.datetimes(max_value=datetime(9998, 1, 1), timezones=st.just(UTC)))
def test_no_instant_lies_between_the_batch_and_the_next_row(batch_max: datetime) -> None:
    assert to_us(hand_over_instant(batch_max)) == to_us(batch_max) + 1


@pytest.mark.parametrize(
    ("last", "first"),
    [
        ("2021-04-30T23:59:59.999999Z", "2021-05-01T00:00:00Z"),
        ("2021-04-30T23:59:00Z", "2021-05-01T00:00:00Z"),
        ("2021-04-30T12:30:00.000001Z", "2021-04-30T12:31:00Z"),
    ],
)
def test_the_next_minute_is_whole_and_after_the_batch(last: str, first: str) -> None:
    assert hand_over_instant(parse_instant(last), HandOver.NEXT_MINUTE) == parse_instant(first)


# Due times


@given(paced, distances)
def test_no_row_is_early_and_none_is_late_by_a_microsecond(timeline: Timeline, distance: int) -> None:
    assert timeline.speed is not None
    exact = timeline.wall_us + Fraction(distance) / Fraction(timeline.speed)
    due = timeline.due_us(timeline.event_us + distance)
    assert exact - max(A_THOUSANDTH_OF_A_MICROSECOND, abs(exact) / 2**52) <= due
    assert due < exact + 1 + abs(exact) / 2**52


@given(timelines, distances, distances)
def test_rows_fall_due_in_their_order(timeline: Timeline, one: int, other: int) -> None:
    earlier, later = sorted((one, other))
    assert timeline.due_us(timeline.event_us + earlier) <= timeline.due_us(timeline.event_us + later)


@given(paced)
def test_the_anchored_row_is_due_at_its_wall_time(timeline: Timeline) -> None:
    assert timeline.due_us(timeline.event_us) == timeline.wall_us
    assert timeline.event_at(timeline.wall_us) == timeline.event_us


def test_sixty_event_seconds_pass_in_one_at_speed_sixty() -> None:
    timeline = Timeline(event_us=0, wall_us=WALL_US, speed=60)
    assert timeline.due_us(60_000_000) == WALL_US + 1_000_000
    assert timeline.event_at(WALL_US + 1_000_000) == 60_000_000


def test_a_fraction_of_a_microsecond_makes_a_row_late_never_early() -> None:
    timeline = Timeline(event_us=0, wall_us=WALL_US, speed=3)
    assert [timeline.due_us(event) - WALL_US for event in (-1, 0, 1, 3, 4)] == [0, 0, 1, 1, 2]


@given(paced, st.integers(0, YEAR_US))
def test_what_is_due_at_an_instant_is_what_fell_due_by_then(timeline: Timeline, elapsed: int) -> None:
    wall = timeline.wall_us + elapsed
    assert timeline.due_us(timeline.event_at(wall)) <= wall + 1


def test_at_max_every_row_is_due_at_once() -> None:
    timeline = Timeline(event_us=0, wall_us=WALL_US, speed=None)
    assert {timeline.due_us(event) for event in (-YEAR_US, 0, YEAR_US)} == {WALL_US}


def test_a_timeline_without_a_pace_has_no_event_time_to_tell() -> None:
    with pytest.raises(RequestError, match="speed is max: such a timeline has no pace"):
        Timeline(event_us=0, wall_us=WALL_US, speed=None).event_at(WALL_US)


@given(
    st.floats(min_value=5e-324, allow_infinity=False), st.integers(-(2**63), 2**63 - 1), st.integers(-(2**62), 2**62)
)
def test_no_speed_that_was_ever_saved_leads_out_of_the_calendar(speed: float, event_us: int, wall_us: int) -> None:
    timeline = Timeline(event_us=0, wall_us=WALL_US, speed=speed)
    assert from_us(timeline.due_us(event_us)).tzinfo is UTC
    assert from_us(timeline.event_at(wall_us)).tzinfo is UTC
    assert timeline.at_speed(1.0, wall_us).speed == 1.0


# Another speed


@given(paced, speeds, st.integers(0, 3600 * 1_000_000))
def test_another_speed_keeps_the_place(timeline: Timeline, speed: float, elapsed: int) -> None:
    wall = timeline.wall_us + elapsed
    assert timeline.at_speed(speed, wall).event_at(wall) == timeline.event_at(wall)


@given(paced, speeds, st.integers(0, 3600 * 1_000_000), st.integers(1, YEAR_US))
def test_after_a_change_of_speed_no_row_falls_due_in_the_past(
    timeline: Timeline, speed: float, elapsed: int, ahead: int
) -> None:
    wall = timeline.wall_us + elapsed
    changed = timeline.at_speed(speed, wall)
    assert changed.due_us(timeline.event_at(wall) + ahead) >= wall


@given(paced, st.integers(0, 3600 * 1_000_000))
def test_max_lets_everything_go_from_now_on(timeline: Timeline, elapsed: int) -> None:
    wall = timeline.wall_us + elapsed
    assert timeline.at_speed(None, wall).due_us(timeline.event_us + YEAR_US) == wall


def test_a_pace_after_max_starts_at_the_anchored_row() -> None:
    paced_again = Timeline(event_us=7, wall_us=WALL_US, speed=None).at_speed(1, WALL_US + 5)
    assert paced_again == Timeline(event_us=7, wall_us=WALL_US + 5, speed=1)
