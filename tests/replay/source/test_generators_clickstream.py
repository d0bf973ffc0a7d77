"""Simulated clicks: visits of some minutes, by users of whom a few come much more often, as in the public sample."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from operator import itemgetter
from statistics import median
from typing import Any

import pytest

from rejeu.replay.source.generators.clickstream import Clickstream
from rejeu.replay.source.generators.endless import MINUTE_US, SECOND_US

Day = list[dict[str, Any]]


@pytest.fixture(scope="module")
def day() -> Day:
    return [row for table in Clickstream(users=200, every=5, minutes=24 * 60).tables() for row in table.to_pylist()]


def test_users_click_as_often_as_asked_and_some_much_more_than_others(day: Day) -> None:
    clicks = Counter(row["user_pseudo_id"] for row in day)
    assert 0.8 < len(day) / (24 * 3600 / 5) < 1.2
    assert 100 < len(clicks) <= 200
    assert clicks.most_common(1)[0][1] > 10 * median(clicks.values())
    assert all(len(user) == 32 and user == user.upper() for user in clicks)


def test_clicks_come_in_visits_that_begin_with_their_start(day: Day) -> None:
    by_user = sorted(day, key=itemgetter("user_pseudo_id", "event_timestamp"))
    gaps = []
    for _, clicks in groupby(by_user, itemgetter("user_pseudo_id")):
        earlier = None
        for each in clicks:
            gap = None if earlier is None else each["event_timestamp"] - earlier
            if gap is None or gap > 30 * MINUTE_US:
                assert each["event_name"] == "session_start"
            else:
                gaps.append(gap)
            earlier = each["event_timestamp"]
    assert 2 * SECOND_US < median(gaps) < 8 * SECOND_US
    assert len({row["event_name"] for row in day}) > 5


def test_no_visit_lasts_longer_than_it_may() -> None:
    generator = Clickstream(every=0.05)
    visits = [visit for minute in range(100) for visit in generator.episodes(minute)]
    lengths = [visit[-1]["event_timestamp"] - visit[0]["event_timestamp"] for visit in visits]
    assert len(visits) > 1_000
    assert 30 * MINUTE_US < max(lengths) < generator.reach * MINUTE_US
