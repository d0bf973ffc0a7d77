"""Simulated entries and exits: whoever goes out came in before, and in the night few are there."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import pytest

from rejeu.replay.source.generators.site_access import SiteAccess


def events(start: datetime, days: int = 1) -> list[dict[str, Any]]:
    tables = SiteAccess(start=start, minutes=days * 24 * 60, sites=2, services=3, every=20).tables()
    return [row for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("hour", [0, 12], ids=["from midnight", "from noon, when many are inside"])
def test_no_service_has_less_than_nobody_inside_and_most_leave_by_night(hour: int) -> None:
    inside: Counter[tuple[str, str]] = Counter()
    for _, day in groupby(
        events(datetime(2026, 3, 1, hour, 0, 30, tzinfo=UTC), days=3), lambda row: row["eventTime"].date()
    ):
        most = at_midnight = inside.total()
        for row in day:
            inside[row["site"], row["service"]] += row["event"]
            assert min(inside.values()) >= 0
            most = max(most, inside.total())
        assert at_midnight < most / 5
    assert len(inside) == 6


def test_people_come_in_the_morning_and_leave_in_the_evening() -> None:
    day = events(datetime(2026, 3, 1, tzinfo=UTC))
    entries = Counter(row["eventTime"].hour for row in day if row["event"] == 1)
    exits = Counter(row["eventTime"].hour for row in day if row["event"] == -1)
    assert {row["event"] for row in day} == {1, -1}
    assert 24 * 3600 / 20 * 0.9 < exits.total() < entries.total() < 24 * 3600 / 20 * 1.1
    assert entries.most_common(1)[0][0] in (7, 8)
    assert exits.most_common(1)[0][0] in (16, 17)


def test_every_door_is_one_sites() -> None:
    doors = defaultdict(set)
    for row in events(datetime(2026, 3, 1, tzinfo=UTC)):
        doors[row["site"]].add(row["device"])
    assert doors == {f"site-{n}": {f"site-{n}-door-1", f"site-{n}-door-2"} for n in (1, 2)}
