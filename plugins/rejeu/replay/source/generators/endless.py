"""What the simulators share that go on for ever and can begin at any instant; what happens is each one's own."""

from __future__ import annotations

import random
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import count, dropwhile, islice, takewhile
from operator import itemgetter
from typing import Annotated, ClassVar, Final

import pyarrow as pa
from pydantic import Field

from rejeu.jobs.request import Instant
from rejeu.replay.source.generators.base import TABLE_ROWS, Generator, Positive, Row, arrow_schema
from rejeu.timeline import to_us

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US

Many = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(ge=0.001, le=3600)]
"""From one to the next: with less a minute's rows would fill the memory, with more nobody would wait for them."""


class Endless(Generator):
    """Rows from `start` on, for so many `minutes` and at most `limit` of them, else for ever.

    They are told as episodes, rows that belong together and are left out together where they begin before `start`.
    Chance begins anew with each minute, so that what happens in it follows from the options and the time alone.
    """

    time: ClassVar[str]
    """The column of the event time, in microseconds since the epoch until the rows are in a table."""
    reach: ClassVar[int]
    """How many minutes beyond its first one an episode may last."""

    start: Instant = datetime(2026, 1, 1, tzinfo=UTC)
    minutes: Positive | None = None
    seed: int = 0
    limit: Many | None = None

    @abstractmethod
    def episodes(self, minute: int) -> Iterable[list[Row]]:
        """What begins in this minute, counted from the epoch; each has a row at least, and its first one first."""

    def tables(self, from_us: int | None = None) -> Iterator[pa.Table]:
        rows, schema = self._rows(from_us), arrow_schema(self.columns)
        while some := list(islice(rows, TABLE_ROWS)):
            yield pa.Table.from_pylist(some, schema)

    def chance(self, *of: object) -> random.Random:
        """The chance that decides this, the same each time."""
        return random.Random("/".join(map(str, (type(self).__name__, self.seed, *of))))

    def _rows(self, from_us: int | None) -> Iterator[Row]:
        start_us = to_us(self.start)
        first_us = start_us if from_us is None else max(from_us, start_us)
        # A limit counts from the start on, so that the last row is the same one wherever one begins.
        rows = self._in_time(start_us if self.limit else first_us)
        if self.minutes is not None:
            until_us = start_us + self.minutes * MINUTE_US
            rows = takewhile(lambda row: row[self.time] < until_us, rows)
        return dropwhile(lambda row: row[self.time] < first_us, islice(rows, self.limit))

    def _in_time(self, from_us: int) -> Iterator[Row]:
        """The rows by time, all those from `from_us` on among them."""
        start_us, time = to_us(self.start), itemgetter(self.time)
        to_come: list[Row] = []
        for minute in count(max(from_us // MINUTE_US - self.reach, start_us // MINUTE_US)):
            for episode in self.episodes(minute):
                if time(episode[0]) >= start_us:
                    to_come += episode
            to_come.sort(key=time)
            come = bisect_left(to_come, (minute + 1) * MINUTE_US, key=time)
            yield from to_come[:come]
            del to_come[:come]


def moments(minute: int, every: float, chance: random.Random) -> Iterator[int]:
    """Instants of the minute in microseconds, `every` so many seconds in the mean, none of which knows of another."""
    seconds = every * chance.expovariate(1.0)
    while seconds < 60:
        yield minute * MINUTE_US + int(seconds * SECOND_US)
        seconds += every * chance.expovariate(1.0)
