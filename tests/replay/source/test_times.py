"""Event times of every type, as microseconds since the epoch."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rejeu.replay.source.times
from rejeu.errors import RequestError, RowError, SourceError
from rejeu.replay.source.times import event_times, json_times
from rejeu.spec.types import TimeUnit
from rejeu.timeline import parse_instant, to_us

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


TIMES = st.sampled_from(
    ["", "00:00:00", "23:59:59", "24:00:00", "23:59:60", "12", "12:30", "1230", "12:30:00.5", "12:30:00,5"]
) | st.integers(0, 10**9).map(lambda fraction: f"12:30:00.{fraction}")
TEXTS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["0000-12-31", "0001-01-01", "9999-12-31", "20210501", "2021-02-29", "2021-5-1", "+2021-05-01"])
    | st.dates().map(str),
    st.sampled_from(["T", " ", "t", ""]),
    TIMES,
    st.sampled_from(["Z", "z", " UTC", "UTC", "", "-02", "+0200", "+02:00", "-23:59", "+24:00", "+02:60", " Z", "ZZ"]),
)


@given(st.lists(TEXTS, min_size=1, max_size=3))
@settings(max_examples=500, deadline=None)
def test_many_texts_are_read_as_each_one_is(texts: list[str]) -> None:
    try:
        expected: list[int] | None = [
            to_us(parse_instant(text.removesuffix(" UTC") + "Z" if text.endswith(" UTC") else text)) for text in texts
        ]
    except RequestError:
        expected = None
    for read in (lambda: event_times(pa.chunked_array([texts]), "at", None), lambda: json_times(texts, "at", None)):
        if expected is None:
            with pytest.raises(RowError, match="an event time is a timestamp"):
                read()
        else:
            assert read().to_pylist() == expected


@pytest.mark.parametrize(
    "text",
    ["2021-05-01T12:00:00Z", "2021-05-01 14:00:00+02:00", "2021-05-01 12:00:00 UTC", "2021-05-01T12:00:00.0000009Z"],
)
def test_the_usual_ways_to_write_a_time_are_not_read_one_by_one(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.delattr(rejeu.replay.source.times, "_text_time")
    assert json_times([text] * 3, "at", None).to_pylist() == [NOON_US] * 3


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([NOON_US // 1_000] * 2, "ms"),
        ([str(NOON_US), NOON_US], "us"),
        (["2021-05-01T12:00:00Z", "2021-05-01 12:00:00 UTC"], None),
        (["2021-05-01T12:00:00.000000999Z", "2021-05-01T12:00:00Z"], None),
        (["2021-05-01T12:00:00Z", "20210501T120000Z"], None),
    ],
)
def test_json_values_may_be_written_in_several_ways(values: list[object], unit: TimeUnit | None) -> None:
    assert json_times(values, "at", unit).to_pylist() == [NOON_US] * 2


@pytest.mark.parametrize("value", [None, True, 1.0, "1.5", "", [1], {"at": 1}])
@pytest.mark.parametrize("unit", ["s", None])
def test_json_values_of_other_kinds_are_refused(value: object, unit: TimeUnit | None) -> None:
    with pytest.raises(RowError, match=r"at.*: an event time is|is not a time"):
        json_times([value], "at", unit)


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
        pytest.param(
            pa.array([10**9, 10**12], pa.timestamp("s")),
            RowError,
            r"at has a timestamp\[s\] out of bounds in 2 rows read: times lie in the years 1 to 9999",
            id="beyond the calendar",
        ),
    ],
)
def test_what_is_no_time_is_refused(array: pa.Array, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        event_times(pa.chunked_array([array]), "at", None)


@pytest.mark.parametrize("value", [10**12, 10**18, 10**30, -(10**12)])
def test_an_integer_in_another_unit_than_was_said_is_refused(value: int) -> None:
    with pytest.raises(RowError, match=rf"at is {value} s: times lie in the years 1 to 9999; check .*--time-unit"):
        json_times([value], "at", "s")
    if abs(value) < 2**63:
        with pytest.raises(RowError, match="at has a int64 out of bounds in 1 rows read"):
            event_times(pa.chunked_array([[value]]), "at", "s")
