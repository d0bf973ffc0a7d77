"""What happens in a round: all of it follows from the seed and the round's number; nothing is done here."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SECONDS: Final = 8
"""How long the rows of a paced round last, where that is not too many."""
RATES: Final = (50, 20_000)
MAX_SHARE: Final = 1 / 6
"""Of the rounds without any pace."""
MAX_ROWS: Final = 400_000
MAX_ORDERED_ROWS: Final = 100_000
"""Google's emulator delivers them the slower, the more it has."""


class Fault(StrEnum):
    """What is done to a replay or its broker."""

    KILL_ALONE = "kill, relaunch"
    KILL = "kill"
    PAUSE = "pause"
    CUT = "broker gone"
    KILL_TWICE = "kill twice"
    STOP = "stop"
    KILL_STANDBY = "kill standby"

    @property
    def standbys(self) -> int:
        """How many replays stand by when the round begins."""
        return {Fault.KILL_ALONE: 0, Fault.CUT: 0, Fault.KILL_TWICE: 2}.get(self, 1)


@dataclass(frozen=True)
class Plan:
    """One round. `rate` is in rows a second, None for no pace; `moment` and `length` are seconds.

    The fault comes `moment` after the first message; what lasts, lasts for `length`.
    """

    number: int
    seed: int
    fault: Fault
    broker: str
    rate: int | None
    rows: int
    suffix: str
    ordered: bool
    moment: float
    length: float


def plan(seed: int, number: int, brokers: Sequence[str]) -> Plan:
    """Faults and brokers take turns, so that some rounds have them all; the rest is drawn."""
    drawn = random.Random(f"{seed}/{number}")
    low, high = (math.log(each) for each in RATES)
    rate = None if drawn.random() < MAX_SHARE else round(math.exp(drawn.uniform(low, high)))
    ordered = drawn.random() < 0.5
    most = MAX_ORDERED_ROWS if ordered else MAX_ROWS
    return Plan(
        number=number,
        seed=seed,
        fault=list(Fault)[number % len(Fault)],
        broker=brokers[number % len(brokers)],
        rate=rate,
        rows=most if rate is None else min(most, rate * SECONDS),
        suffix=drawn.choice((".parquet", ".ndjson")),
        ordered=ordered,
        moment=drawn.uniform(0.0, 0.8) if rate is None else drawn.uniform(0.1, 2.0),
        length=drawn.uniform(1.0, 3.0),
    )
