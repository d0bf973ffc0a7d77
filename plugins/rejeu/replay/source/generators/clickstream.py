"""Clicks in an app, made up: users come for some minutes and click every few seconds, a few of them much more often.

The figures are those of the public Firebase sample, a day of 50,000 events of 548 users.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import accumulate, takewhile
from typing import Final

from rejeu.replay.source.generators.base import Row
from rejeu.replay.source.generators.endless import MINUTE_US, SECOND_US, Endless, Many, Seconds, moments
from rejeu.spec.columns import Column
from rejeu.spec.sources import GeneratorKind

MEDIAN_CLICKS, CLICKS_SPREAD = 16.0, 1.1
"""How many a visit has, log-normal."""
MEDIAN_GAP, GAP_SPREAD = 3.9, 1.2
"""Seconds between two of them, log-normal."""
MEAN_CLICKS: Final = MEDIAN_CLICKS * math.exp(CLICKS_SPREAD**2 / 2)
FIRST: Final = "session_start"
EVENTS: Final = {
    "screen_view": 41, "user_engagement": 23, "level_start_quickplay": 9, "level_end_quickplay": 5, "post_score": 4,
    "level_complete_quickplay": 3, "level_reset_quickplay": 2, "select_content": 2, "level_fail_quickplay": 2,
}  # fmt: skip


class Clickstream(Endless):
    """Clicks of so many `users`, `every` so many seconds in the mean."""

    columns = (Column("user_pseudo_id", "STRING"), Column("event_timestamp", "INT64"), Column("event_name", "STRING"))
    time = "event_timestamp"
    reach = 60

    users: Many = 500
    every: Seconds = 2.0

    def episodes(self, minute: int) -> Iterator[list[Row]]:
        """A user's visit is one."""
        chance = self.chance(minute)
        for begin in moments(minute, self.every * MEAN_CLICKS, chance):
            user = self.chance("user", int(self.users * chance.random() ** 2)).getrandbits(128)
            yield [
                {"user_pseudo_id": f"{user:032X}", "event_timestamp": at, "event_name": name}
                for at, name in _visit(begin, begin + self.reach * MINUTE_US, chance)
            ]


GENERATOR: Final = GeneratorKind(Clickstream)


def _visit(begin: int, until: int, chance: random.Random) -> Iterator[tuple[int, str]]:
    """When a user clicks, in microseconds, and at what."""
    clicks = math.ceil(chance.lognormvariate(math.log(MEDIAN_CLICKS), CLICKS_SPREAD))
    names = [FIRST, *chance.choices(list(EVENTS), list(EVENTS.values()), k=clicks - 1)]
    gaps = (int(chance.lognormvariate(math.log(MEDIAN_GAP), GAP_SPREAD) * SECOND_US) for _ in names[1:])
    times = takewhile(lambda at: at < until, accumulate(gaps, initial=begin))
    return zip(times, names, strict=False)
