"""Columns of instants as text, the same as one at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rejeu.replay.format.instants import instant_digits
from rejeu.timeline import format_instant, from_us

FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The first microsecond of year 1 and the last of 9999."""


def texts_of(event_us: np.ndarray) -> list[str]:
    return [row.tobytes().decode() for row in instant_digits(event_us)]


@given(st.lists(st.sampled_from([FIRST_US, -1, 0, LAST_US]) | st.integers(FIRST_US, LAST_US)))
def test_texts_are_those_of_the_timeline(event_us: list[int]) -> None:
    assert texts_of(np.array(event_us, np.int64)) == [format_instant(from_us(us)) for us in event_us]


def test_every_day_of_a_gregorian_cycle_and_its_neighbours_has_its_date() -> None:
    days = np.arange("1899-12-31", "2301-01-02", dtype="datetime64[D]")
    texts = texts_of(days.astype("datetime64[us]").astype(np.int64))
    assert texts == [f"{day}T00:00:00.000000Z" for day in days.astype(str)]


def test_digits_have_a_row_of_ascii_for_each_instant() -> None:
    digits = instant_digits(np.array([0, 1_619_827_201_000_002]))
    assert (digits.shape, digits.dtype) == ((2, 27), np.uint8)
    assert digits.tobytes() == b"1970-01-01T00:00:00.000000Z" + b"2021-05-01T00:00:01.000002Z"
    assert instant_digits(np.array([], np.int64)).shape == (0, 27)
