"""What was promised, held against what was seen: pure, from arrivals, due times, incidents and counts of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.chaos.stack.tap import Arrival

MARGIN_SECONDS: Final = 2.0
"""A silence that ends within so many seconds beyond its limit may be over before anybody saw it."""
EARLY_SECONDS: Final = 0.5
"""A silence of so much less than the limit may look as long as it to whoever reads checkpoints."""
ALONE_MEDIAN_SECONDS: Final = 8.0
ALONE_P95_SECONDS: Final = 15.0
STANDBY_MEDIAN_SECONDS: Final = 1.5


@dataclass(frozen=True)
class Span:
    """From one time to another, seconds since the epoch."""

    begin: float
    end: float

    def meets(self, other: Span) -> bool:
        """Whether they have a moment in common."""
        return self.begin <= other.end and other.begin <= self.end


@dataclass(frozen=True)
class Incident:
    """A row of the table of incidents; times are seconds since the epoch."""

    stream: str
    lost_at: float
    detected_at: float
    relaunched_at: float | None
    resumed_at: float
    cause: str

    @property
    def span(self) -> Span:
        return Span(self.lost_at, self.resumed_at)


@dataclass(frozen=True)
class Rows:
    """The live view against the rows that were due: `strange` ones are in no source."""

    due: int
    missing: int
    doubled: int
    strange: int

    @property
    def wrong(self) -> int:
        return self.missing + self.doubled + self.strange


@dataclass(frozen=True)
class Spread:
    """How long silences lasted, in seconds; nothing where there were none."""

    count: int
    median: float | None
    p95: float | None
    longest: float | None

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Spread:
        values = list(seconds)
        if not values:
            return cls(0, None, None, None)
        median, p95 = np.quantile(values, (0.5, 0.95))
        return cls(len(values), round(float(median), 2), round(float(p95), 2), round(max(values), 2))


def silences(due: NDArray[np.float64], arrivals: Sequence[Arrival], limit: float) -> list[Span]:
    """Each time that nothing new came for longer than `limit` seconds while a row was due.

    A silence begins when the first row falls due that does not come. Rows that come again end none, and those that
    were owed come after one another without any between them.
    """
    found, furthest, came = list[Span](), -1, 0.0
    for each in arrivals:
        if each.number <= furthest:
            continue
        if furthest >= 0:
            lost = max(came, float(due[furthest + 1]))
            found += [Span(lost, each.arrived)] if each.arrived - lost > limit else []
        furthest, came = each.number, each.arrived
    return found


def unrecorded(
    seen: Sequence[Span], incidents: Sequence[Incident], outages: Sequence[Span], limit: float
) -> list[Span]:
    """Silences beyond the limit without an incident; where the broker itself was away there is nothing to relaunch."""
    return [
        each
        for each in seen
        if each.end - each.begin > limit + MARGIN_SECONDS
        and not any(each.meets(incident.span) for incident in incidents)
        and not any(each.meets(outage) for outage in outages)
    ]


def unfounded(seen: Sequence[Span], incidents: Sequence[Incident]) -> list[Incident]:
    """Incidents without a silence, and all but the first of those that share one."""
    wrong, used = list[Incident](), set[int]()
    for incident in incidents:
        met = {place for place, each in enumerate(seen) if each.meets(incident.span)} - used
        if met:
            used.add(min(met))
        else:
            wrong.append(incident)
    return wrong


def broken_limits(alone: Spread, standby: Spread) -> list[str]:
    """Which of the promised times were not kept, in words."""
    limits = {
        "median without a standby": (alone.median, ALONE_MEDIAN_SECONDS),
        "p95 without a standby": (alone.p95, ALONE_P95_SECONDS),
        "median with a standby": (standby.median, STANDBY_MEDIAN_SECONDS),
    }
    return [
        f"{name} is {seconds:g} s: {limit:g} s are promised"
        for name, (seconds, limit) in limits.items()
        if seconds is not None and seconds > limit
    ]
