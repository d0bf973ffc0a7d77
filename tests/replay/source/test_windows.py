"""How a table is cut into windows, and the conditions that select them."""

from __future__ import annotations

import pytest

from rejeu.errors import SourceError
from rejeu.replay.source.windows import TimeColumn, TimeSpan, histogram, windows
from rejeu.spec.types import TimeUnit

DAY_US = 86_400_000_000


def test_neighbours_share_a_window_up_to_the_target_and_gaps_are_left_out() -> None:
    buckets = [
        TimeSpan(0, 10, 4),
        TimeSpan(10, 20, 6),
        TimeSpan(500, 510, 1),
        TimeSpan(510, 520, 30),
        TimeSpan(520, 530, 1),
    ]
    assert list(windows(buckets, target_rows=10)) == [
        TimeSpan(0, 20, 10),
        TimeSpan(500, 510, 1),
        TimeSpan(510, 520, 30),
        TimeSpan(520, 530, 1),
    ]
    assert list(windows([], target_rows=10)) == []


@pytest.mark.parametrize(
    ("kind", "unit", "condition"),
    [
        (
            "TIMESTAMP",
            None,
            "`at` >= TIMESTAMP '1970-01-01T00:00:00.000001Z' AND `at` < TIMESTAMP '1970-01-02T00:00:00.000000Z'",
        ),
        (
            "DATETIME",
            None,
            "`at` >= DATETIME '1970-01-01T00:00:00.000001' AND `at` < DATETIME '1970-01-02T00:00:00.000000'",
        ),
        ("DATE", None, "`at` >= DATE '1970-01-02' AND `at` < DATE '1970-01-02'"),
        ("INT64", "s", "`at` >= 1 AND `at` < 86400"),
        ("INTEGER", "us", "`at` >= 1 AND `at` < 86400000000"),
    ],
)
def test_a_window_is_a_condition_on_the_bare_column(kind: str, unit: TimeUnit | None, condition: str) -> None:
    assert TimeColumn("at", kind, unit).within(1, DAY_US) == condition


def test_a_window_without_bounds_has_no_condition() -> None:
    time = TimeColumn("a.b", "TIMESTAMP", None)
    assert time.within(None, None) == ""
    assert time.within(None, 0) == "`a`.`b` < TIMESTAMP '1970-01-01T00:00:00.000000Z'"
    assert "WHERE" not in histogram("p.d.t", time, None, None)


def test_a_type_that_is_no_time_is_refused() -> None:
    with pytest.raises(SourceError, match="at is BOOLEAN: an event time is a timestamp"):
        TimeColumn("at", "BOOLEAN", None).within(1, None)
    with pytest.raises(SourceError, match="give --time-unit"):
        _ = TimeColumn("at", "INT64", None).micros
