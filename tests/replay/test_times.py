"""Event times of every type, as microseconds since the epoch."""

from __future__ import annotations

import pyarrow as pa
import pytest

from rejeu.errors import RowError, SourceError
from rejeu.replay.times import event_times
from rejeu.request import TimeUnit

NOON_US = 1_619_870_400_000_000
"""2021-05-01T12:00:00Z."""


@pytest.mark.parametrize(
    ("array", "unit"),
    [
        pytest.param(pa.array([NOON_US], pa.timestamp("us", "UTC")), None, id="TIMESTAMP"),
        pytest.param(pa.array([NOON_US * 1_000 + 999], pa.timestamp("ns", "UTC")), None, id="nanoseconds are cut off"),
        pytest.param(pa.array([NOON_US // 1_000], pa.timestamp("ms", "Asia/Tokyo")), None, id="another zone"),
        pytest.param(pa.array([NOON_US], pa.timestamp("us")), None, id="DATETIME is UTC"),
        pytest.param(pa.array([NOON_US // 1_000_000]), "s", id="seconds"),
        pytest.param(pa.array([NOON_US // 1_000]), "ms", id="milliseconds"),
        pytest.param(pa.array([NOON_US], pa.uint64()), "us", id="microseconds"),
        pytest.param(pa.array(["2021-05-01T12:00:00Z"]), None, id="ISO 8601"),
        pytest.param(pa.array(["2021-05-01 14:00:00.000000999+02:00"]), None, id="with offset and nanoseconds"),
        pytest.param(pa.array(["2021-05-01 12:00:00 UTC"], pa.large_string()), None, id="as BigQuery exports it"),
    ],
)
def test_every_type_of_time_gives_the_same_instant(array: pa.Array, unit: TimeUnit | None) -> None:
    assert event_times(pa.chunked_array([array]), "at", unit).to_pylist() == [NOON_US]


def test_a_date_is_its_midnight_and_times_before_the_epoch_are_negative() -> None:
    assert event_times(pa.chunked_array([pa.array([-1, 1], pa.date32())]), "at", None).to_pylist() == [
        -86_400_000_000,
        86_400_000_000,
    ]


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        pytest.param(pa.array([1]), SourceError, "give --time-unit s, ms or us", id="an integer without a unit"),
        pytest.param(pa.array([1.5]), SourceError, "at is double", id="a float"),
        pytest.param(pa.array(["a", None]), RowError, r"at is null in 1 of 2 rows.*WHERE at IS NOT NULL", id="a null"),
        pytest.param(pa.array(["2021-05-01T12:00:00"]), RowError, "has no time zone", id="text without a zone"),
        pytest.param(pa.array(["noon"]), RowError, "'noon' is not a time", id="other text"),
    ],
)
def test_what_is_no_time_is_refused(array: pa.Array, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        event_times(pa.chunked_array([array]), "at", None)
