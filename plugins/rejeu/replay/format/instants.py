"""Whole columns of instants as RFC 3339 text, in numpy; `rejeu.timeline` formats single ones."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
YEAR_1_US: Final = -719_162 * DAY_US
YEAR_10000_US: Final = 2_932_897 * DAY_US
"""The years of four digits lie between these two, the end excluded."""

SHAPE: Final = np.frombuffer(b"yyyy-MM-ddThh:mm:ss.ffffffZ", np.uint8)
WIDTH: Final = len(SHAPE)
PLACES: Final = (0, 2, 5, 8, 11, 14, 17, 20, 22, 24)
"""Where each pair of digits begins: century, year in it, month, day, hour, minute, second, microseconds (three)."""
PAIRS: Final = np.array([f"{number:02d}".encode() for number in range(100)]).view(np.uint16)
DIGITS: Final = np.dtype(
    {"names": [str(at) for at in PLACES], "formats": ["u2"] * len(PLACES), "offsets": PLACES, "itemsize": WIDTH}
)


def instant_digits(event_us: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(n,) microseconds since the epoch, UTC, to (n, 27) ASCII: `2021-05-01T00:00:00.000000Z` each.

    Years are 1 to 9999; the text of an instant outside of them is meaningless.
    """
    days, day_us = _split(event_us, DAY_US)
    seconds, micros = (part.astype(np.int32) for part in _split(day_us, SECOND_US))
    year, month, day = _civil(days.astype(np.int32))
    minutes, second = _split(seconds, 60)
    upper, lower = _split(micros, 10_000)
    pairs = (*_split(year, 100), month, day, *_split(minutes, 60), second, upper, *_split(lower, 100))
    digits = np.empty((len(event_us), WIDTH), np.uint8)
    digits[:] = SHAPE
    records = digits.view(DIGITS)[:, 0]
    for place, pair in zip(PLACES, pairs, strict=True):
        records[str(place)] = PAIRS.take(pair, mode="clip")
    return digits


def _civil(days: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Days since the epoch to year, month and day: https://howardhinnant.github.io/date_algorithms.html#civil_from_days

    Years begin in March here, so that the leap day is the last day; an era has 400 years.
    """
    shifted = days + 719_468
    era = shifted // 146_097
    day_of_era = shifted - era * 146_097
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    early = month >= 10
    return year_of_era + era * 400 + early, month + 3 - 12 * early, day


def _split(number: NDArray[Any], unit: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Like divmod, but faster: numpy divides by a constant much faster than it takes the remainder."""
    whole = number // unit
    return whole, number - whole * unit
