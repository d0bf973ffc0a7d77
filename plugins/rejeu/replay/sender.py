"""The sender: which rows are due, in which requests they go, and how far that got; it runs in the main thread."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any, Final

import numpy as np

from rejeu.message import MAX_MESSAGE_BYTES, MAX_REQUEST_MESSAGES
from rejeu.replay.order import Chunk
from rejeu.replay.pacer import Clock, Lateness
from rejeu.replay.publisher import Batch, Publisher, build_request
from rejeu.timeline import Position, Timeline, format_instant, from_us

TICK_SECONDS: Final = 0.003
"""The least time between two requests: rows that fall due within it travel together."""
LONGEST_WAIT_SECONDS: Final = 0.2
MESSAGE_OVERHEAD_BYTES: Final = 150
"""Names and framing of a message's fields, rounded up."""


class Sender:
    """Sends rows from `start` on when they are due: by the `timeline` of the replay before, else by one of its own.

    Rows that were due already when it began are what the silence before it held back: they are counted as owed.
    """

    def __init__(
        self,
        publisher: Publisher,
        clock: Clock,
        *,
        stream: str,
        epoch: int,
        speed: float | None,
        start: Position | None,
        timeline: Timeline | None,
    ) -> None:
        self.lateness = Lateness()
        self._publisher, self._clock = publisher, clock
        self._stream, self._epoch, self._speed = stream, epoch, speed
        self._start = self._sent = start
        now_us = clock.now_us()
        self._timeline = keep_on(timeline, speed, now_us)
        self._owed_until_us = self._timeline.event_at(now_us) if self._timeline else None
        self._owed = 0
        self._knows_next = False
        self._next_us: int | None = None

    @property
    def cursor(self) -> Position | None:
        """The place up to which every row is acknowledged."""
        return self._publisher.acknowledged.cursor or self._start

    def send(self, chunk: Chunk, at: int) -> int:
        """Send the rows from index `at` on that are due, or wait a little; returns the index of the next row."""
        self._knows_next, self._next_us = True, chunk.event_us[at]
        timeline = self._timeline = self._timeline or self._begin(chunk.event_us[at])
        early_us = timeline.due_us(chunk.event_us[at]) - self._clock.now_us()
        if early_us > 0:
            self._clock.wait(min(early_us / 1_000_000, LONGEST_WAIT_SECONDS))
            return at
        if not self._publisher.has_room(LONGEST_WAIT_SECONDS):
            return at
        end = self._fit(chunk, at, timeline)
        batch = self._batch(chunk, at, end)
        self._publisher.send(batch)
        self._sent = batch.end
        self._next_us = chunk.event_us[end] if end < len(chunk.event_us) else None
        self.lateness.add(timeline, chunk.event_us[at:end], self._clock.now_us())
        if self._owed_until_us is not None:
            self._owed += bisect_right(chunk.event_us, self._owed_until_us, at, end) - at
        if timeline.speed is not None and end - at < MAX_REQUEST_MESSAGES:
            self._clock.wait(TICK_SECONDS)
        return end

    def reached(self) -> dict[str, Any]:
        """What a checkpoint saves, beside the renewal; called by the keeper's thread."""
        acknowledged = self._publisher.acknowledged
        fields: dict[str, Any] = {"published": acknowledged.rows, "owed": self._owed, "timeline": self._timeline}
        if acknowledged.cursor is not None:
            fields |= {
                "cursor": acknowledged.cursor,
                "last_published": acknowledged.last,
                "resumed_at": acknowledged.first,
            }
        if self._knows_next and self._timeline is not None:
            pending_us = self._publisher.oldest_pending()
            next_us = self._next_us if pending_us is None else pending_us
            fields["next_due"] = None if next_us is None else from_us(self._timeline.due_us(next_us))
        return fields

    def describe(self) -> str:
        """How far it got, for the person who waits."""
        acknowledged = self._publisher.acknowledged
        place = format_position(acknowledged.cursor) if acknowledged.cursor else "nothing acknowledged yet"
        return f"{self._stream}: {acknowledged.rows:,} rows published, cursor {place}"

    def _begin(self, first_us: int) -> Timeline:
        """Time begins once rows are at hand: what reading took must not make the first ones late."""
        event_us = first_us if self._start is None else self._start.event_us
        return Timeline(event_us=event_us, wall_us=self._clock.now_us(), speed=self._speed)

    def _fit(self, chunk: Chunk, at: int, timeline: Timeline) -> int:
        """The end of the rows from `at` on that are due now and fit into one request: the row at `at` always is."""
        limit = min(at + MAX_REQUEST_MESSAGES, len(chunk.data))
        if timeline.speed is not None:
            limit = max(at + 1, bisect_right(chunk.event_us, timeline.event_at(self._clock.now_us()), at, limit))
        size = 0
        for index in range(at, limit):
            identity = len(chunk.row_ids[index].encode()) + len(self._stream)
            size += len(chunk.data[index]) + identity + MESSAGE_OVERHEAD_BYTES
            if size > MAX_MESSAGE_BYTES and index > at:
                return index
        return limit

    def _batch(self, chunk: Chunk, at: int, end: int) -> Batch:
        times = chunk.event_us
        # All at once: one by one they would be the largest cost of a message.
        instants = np.datetime_as_string(np.asarray(times[at:end], "datetime64[us]"), timezone="UTC").tolist()
        rows = list(zip(chunk.data[at:end], chunk.row_ids[at:end], instants, strict=True))
        request = build_request(self._publisher.topic, rows, self._stream, str(self._epoch))
        last_us = times[end - 1]
        count = end - bisect_left(times, last_us, at, end)
        if self._sent is not None and self._sent.event_us == last_us:
            count += self._sent.count
        return Batch(request, times[at], Position(last_us, count), end - at)


def keep_on(timeline: Timeline | None, speed: float | None, now_us: int) -> Timeline | None:
    """The timeline of the replay before at this one's speed; None where either has no pace: then time begins anew."""
    if timeline is None or timeline.speed is None or speed is None:
        return None
    return timeline if timeline.speed == speed else timeline.at_speed(speed, now_us)


def format_position(position: Position) -> str:
    """The place for a person to read."""
    return f"{format_instant(from_us(position.event_us))} (+{position.count})"
