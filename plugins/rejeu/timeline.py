"""The clock of a replay and its position in a source, pure: hand-over, speed, due times; no I/O and no sleeping.

All instants are aware UTC `datetime`s with microseconds, which is BigQuery's own resolution; on hot paths they
are integers, microseconds since the epoch, and say so in their name (`_us`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

from rejeu.errors import RequestError, told

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
KEEPING_UNKNOWN: dict[str, Any] = {"extra": "allow"}
"""Pydantic's word for it: fields that only another version of Rejeu knows stay with a value that was read."""


class HandOver(StrEnum):
    """Where the stream starts once the batch has ended."""

    NEXT_ROW = "next_row"
    NEXT_MINUTE = "next_minute"
    LAST_WINDOW = "last_window"


def to_us(instant: datetime) -> int:
    """Microseconds since the epoch, exact: integer arithmetic, without floats."""
    return (instant - EPOCH) // MICROSECOND


def from_us(microseconds: int) -> datetime:
    """The instant so many microseconds after the epoch."""
    return EPOCH + timedelta(microseconds=microseconds)


FIRST_US = to_us(datetime.min.replace(tzinfo=UTC))
LAST_US = to_us(datetime.max.replace(tzinfo=UTC))


def _finite(microseconds: float) -> float:
    """So many microseconds, or all that a calendar has."""
    return min(max(microseconds, FIRST_US - LAST_US), LAST_US - FIRST_US)


def _in_calendar(instant_us: int) -> int:
    """The instant, or the last one of the calendar before it: no row happens beyond, and no replay waits longer."""
    return min(max(instant_us, FIRST_US), LAST_US)


def parse_instant(text: str) -> datetime:
    """An ISO 8601 instant as aware UTC.

    Raises RequestError where the zone is missing: a time without a zone means another instant on each machine.
    """
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            raise RequestError(f"{told(text)} has no time zone: end it with Z, or with an offset such as +02:00")
        return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise RequestError(f"{told(text)} is not a time: write ISO 8601, such as 2021-05-01T00:00:00Z") from None


def format_instant(instant: datetime) -> str:
    """RFC 3339 with microseconds and Z, as BigQuery loads it and Beam reads it from an attribute."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def hand_over_instant(batch_max: datetime, rule: HandOver = HandOver.NEXT_ROW) -> datetime:
    """The first instant that belongs to the stream, given the last one that belongs to the batch.

    `NEXT_ROW` is one microsecond later: with BigQuery's resolution no instant lies between, so no row is
    skipped and none comes twice. `NEXT_MINUTE` is the next whole minute, for users who cut there. `LAST_WINDOW`, for
    streams that aggregate, is that instant itself: the start of the batch's last window, which the stream counts again.
    """
    if rule is HandOver.NEXT_ROW:
        return batch_max + MICROSECOND
    if rule is HandOver.LAST_WINDOW:
        return batch_max
    return batch_max.replace(second=0, microsecond=0) + timedelta(minutes=1)


@dataclass(frozen=True, order=True)
class Position:
    """A position in a source, exact to the row: rows before `event_us` are done, and the first `count` rows at it.

    `digest` tells which rows those `count` are, for a source may change; it is empty where nobody knows.
    """

    __pydantic_config__: ClassVar = KEEPING_UNKNOWN

    event_us: int
    count: int = 0
    digest: str = field(default="", compare=False)

    def has_rows_of(self, other: Position) -> bool:
        """Whether it is the same position, reached by the same rows."""
        return (self, self.digest) == (other, other.digest)


@dataclass(frozen=True)
class Timeline:
    """Maps event time to the wall clock: the row of `event_us` is due at `wall_us`, others `speed` times as fast.

    A relaunched replay keeps the timeline of the one before it: rows that fell due meanwhile are owed at once, and
    the rest stay on time. `speed` None means `max`: every row is due at once.
    """

    __pydantic_config__: ClassVar = KEEPING_UNKNOWN

    event_us: int
    wall_us: int
    speed: float | None

    def due_us(self, event_us: int) -> int:
        """When a row is due on the wall clock; rounded up, so that no row is ever early."""
        if self.speed is None:
            return self.wall_us
        return _in_calendar(self.wall_us + math.ceil(_finite((event_us - self.event_us) / self.speed)))

    def event_at(self, wall_us: int) -> int:
        """The event time that is due at this wall time. Raises RequestError for `max`, which has no pace."""
        if self.speed is None:
            raise RequestError("speed is max: such a timeline has no pace, so no event time is due at a given time")
        return _in_calendar(self.event_us + math.floor(_finite((wall_us - self.wall_us) * self.speed)))

    def at_speed(self, speed: float | None, wall_us: int) -> Timeline:
        """The same position, at another speed from now on: rows not yet due keep their order, none is skipped."""
        anchor = self.event_us if self.speed is None else self.event_at(wall_us)
        return Timeline(event_us=anchor, wall_us=wall_us, speed=speed)
