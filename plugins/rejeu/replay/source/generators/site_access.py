"""Who goes in and out of some sites, made up: most come in the morning and leave in the evening, a few at any hour."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import Field

from rejeu.replay.source.generators.base import Row
from rejeu.replay.source.generators.endless import MINUTE_US, Endless, Seconds, moments
from rejeu.spec.columns import Column
from rejeu.spec.sources import GeneratorKind

HOUR_US: Final = 60 * MINUTE_US
ARRIVALS: Final = (1, 1, 1, 1, 1, 1, 2, 8, 9, 4, 2, 1, 2, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1)
"""How many come in each hour of a day in UTC, as shares of their sum."""
DAWN, NOON, LEAVE, LONGEST = 5.0, 12.0, 17.5, 14.0
"""Hours: most who come from the first to the second one work until about the third; nobody stays beyond the fourth."""
DOORS: Final = 2

Few = Annotated[int, Field(gt=0, le=1_000)]


class SiteAccess(Endless):
    """People who come to one of the `services` of one of the `sites`, `every` so many seconds in a day's mean."""

    columns = (
        Column("eventTime", "TIMESTAMP"),
        Column("site", "STRING"),
        Column("service", "STRING"),
        Column("device", "STRING"),
        Column("event", "INT64"),
    )
    time = "eventTime"
    reach = 16 * 60

    sites: Few = 3
    services: Few = 4
    every: Seconds = 10.0

    def episodes(self, minute: int) -> Iterator[list[Row]]:
        """A visit is one: an entry, +1, and an exit, -1."""
        share = ARRIVALS[minute // 60 % 24] / sum(ARRIVALS)
        chance = self.chance(minute)
        for entry in moments(minute, self.every / (24 * share), chance):
            site = f"site-{chance.randint(1, self.sites)}"
            service = f"service-{chance.randint(1, self.services)}"
            yield [
                {
                    "eventTime": at,
                    "site": site,
                    "service": service,
                    "device": f"{site}-door-{chance.randint(1, DOORS)}",
                    "event": event,
                }
                for at, event in ((entry, 1), (_exit(entry, chance), -1))
            ]


GENERATOR: Final = GeneratorKind(SiteAccess)


def _exit(entry: int, chance: random.Random) -> int:
    """When somebody leaves who came at `entry`; both in microseconds."""
    now = entry / HOUR_US % 24
    works = DAWN <= now < NOON and chance.random() < 0.8
    stay = chance.gauss(LEAVE, 0.75) - now if works else chance.expovariate(1 / 0.75)
    return entry + int(min(max(stay, 0.05), LONGEST) * HOUR_US)
