"""What happens in a round: all of it follows from the seed and the round's number; nothing is done here."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SECONDS: Final = 10
"""How long the rows of a paced round last, where that is not too many."""
RATES: Final = (50, 20_000)
OUTAGE_SECONDS: Final = 3.5
STEPS: Final = (5.0, 3_600.0)
"""By how many seconds clocks are stepped."""
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
    CLOCKS = "clocks stepped"
    STORE_SLOW = "store slow"
    STORE_AWAY = "store refuses"
    DISK_FULL = "disk full"

    @property
    def standbys(self) -> int:
        """How many replays stand by when the round begins."""
        # Behind a store that takes nothing, a holder and its standby would both be right to go on.
        alone = (Fault.KILL_ALONE, Fault.CUT, Fault.STORE_AWAY, Fault.DISK_FULL)
        return 0 if self in alone else 2 if self is Fault.KILL_TWICE else 1

    @property
    def is_watched(self) -> bool:
        """Whether a watchdog looks on, which must not relaunch anything: the replay lives."""
        return self in (Fault.CUT, Fault.CLOCKS, Fault.STORE_SLOW, Fault.STORE_AWAY, Fault.DISK_FULL)


@dataclass(frozen=True)
class Plan:
    """One round. `rate` is in rows a second, None for no pace; `moment`, `length` and `step` are seconds.

    The fault comes `moment` after the first message; what lasts, lasts for `length`. Clocks are stepped by `step`.
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
    step: float

    @property
    def outage(self) -> float:
        """How many seconds the state store takes nothing: long enough for a watchdog to be called, and to try."""
        return OUTAGE_SECONDS + self.length / 2


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
        step=math.exp(drawn.uniform(*(math.log(each) for each in STEPS))),
    )
