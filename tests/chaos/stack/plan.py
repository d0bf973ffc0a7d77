"""Who is killed when: all of it follows from the seed and the number of kills; nothing is done here."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

MOMENT_SECONDS: Final = (0.5, 3.0)
AWAY_SECONDS: Final = (2.0, 5.0)
BETWEEN_SECONDS: Final = (0.0, 1.5)
PAUSE_SECONDS: Final = (3.0, 4.0)
HOLDER_KILLS: Final = 5
FULL: Final = 20
"""With so many kills of the replay, or more, everything else happens too; with fewer, in proportion."""


class Victim(StrEnum):
    """What is killed; the parts of the stack by their own names."""

    REPLAY = "replay"
    HOLDER = "holder of the pair"
    STANDBY = "standby"
    STREAM_JOB = "streaming job"
    TRIGGERER = "triggerer"
    SCHEDULER = "scheduler"
    DAG_PROCESSOR = "dag-processor"
    API_SERVER = "api-server"
    PUBSUB = "pubsub"
    BIGQUERY = "bigquery"

    @property
    def is_part(self) -> bool:
        """Whether it is a part of the stack, which supervisord keeps running."""
        return self in PARTS


PARTS: Final = (
    Victim.TRIGGERER,
    Victim.SCHEDULER,
    Victim.DAG_PROCESSOR,
    Victim.API_SERVER,
    Victim.PUBSUB,
    Victim.BIGQUERY,
)
ALONE: Final = (
    *[(Victim.HOLDER,)] * HOLDER_KILLS,
    (Victim.STANDBY,),
    (Victim.STREAM_JOB,),
    *((part,) for part in PARTS),
)
PAIRS: Final = (
    (Victim.HOLDER, Victim.STANDBY),
    (Victim.REPLAY, Victim.STREAM_JOB),
    *((Victim.REPLAY, part) for part in PARTS),
)


class Mishap(StrEnum):
    """What else may happen, beside the end of a process."""

    RESTART = "live while stop drains"
    TABLE = "source table vanishes"
    TOPIC = "topic deleted and made again"
    SPEC = "spec broken while live"
    JOBS = "jobs API hangs"

    @property
    def stream(self) -> str:
        """To whom it happens."""
        return STREAM_OF_MISHAP[self]

    @property
    def epochs(self) -> range:
        """By how much its epoch may rise: by one with a start, and by two with a relaunch, which fences off first."""
        return EPOCHS[self]

    @property
    def incidents(self) -> int:
        """How many rows in the table of incidents it makes."""
        return 0 if self is Mishap.RESTART else 1


STREAM_OF_MISHAP: Final = {
    Mishap.RESTART: "pair",
    Mishap.TABLE: "table",
    Mishap.TOPIC: "topic",
    Mishap.SPEC: "single",
    Mishap.JOBS: "single",
}
EPOCHS: Final = {
    Mishap.RESTART: range(1, 2),
    Mishap.TABLE: range(4, 13),
    Mishap.TOPIC: range(3),
    Mishap.SPEC: range(2, 3),
    Mishap.JOBS: range(2, 3),
}
WAVES: Final = ((Mishap.RESTART, Mishap.TABLE, Mishap.TOPIC, Mishap.SPEC), (Mishap.JOBS,))
"""What happens at the same time, each to a stream of its own; a jobs API that hangs would hold up the others."""


@dataclass(frozen=True)
class Round:
    """One round: all times are seconds.

    The first victim dies `moment` after everything was well, the second one `between` later. A part of the stack
    stays `away` before supervisord may start it again.
    """

    number: int
    victims: tuple[Victim, ...]
    moment: float
    between: float
    away: float

    @property
    def name(self) -> str:
        """Its victims, for people."""
        return " + ".join(self.victims)

    @property
    def relaunches_alone(self) -> bool:
        """Whether the replay without a standby dies, and nothing else."""
        return self.victims == (Victim.REPLAY,)


@dataclass(frozen=True)
class Disturbance:
    """What happens in the calm, which must not be taken for silence: `at` and `seconds` count from its beginning.

    The broker pauses for `seconds`; without them the triggerer is killed.
    """

    at: float
    seconds: float | None


def plan_rounds(seed: int, kills: int) -> list[Round]:
    """So many kills of the replay alone, and the rest in proportion, in an order that the seed decides."""
    drawn = random.Random(f"{seed}/rounds")
    others = [*ALONE, *PAIRS]
    drawn.shuffle(others)
    victims = [(Victim.REPLAY,)] * kills + others[: len(others) * min(kills, FULL) // FULL]
    drawn.shuffle(victims)
    return [
        Round(
            number=number,
            victims=tuple(drawn.sample(each, len(each))),
            moment=drawn.uniform(*MOMENT_SECONDS),
            between=drawn.uniform(*BETWEEN_SECONDS),
            away=drawn.uniform(*AWAY_SECONDS),
        )
        for number, each in enumerate(victims)
    ]


def plan_calm(seed: int, seconds: float) -> list[Disturbance]:
    """Four pauses of the broker, each somewhere in its sixth of the time, and a kill of the triggerer amid them."""
    drawn = random.Random(f"{seed}/calm")
    borders = [seconds * sixth / 6 for sixth in range(1, 7)]
    moments = [drawn.uniform(begin, begin + (end - begin) / 2) for begin, end in pairwise(borders)]
    return [Disturbance(at, None if turn == 2 else drawn.uniform(*PAUSE_SECONDS)) for turn, at in enumerate(moments)]
