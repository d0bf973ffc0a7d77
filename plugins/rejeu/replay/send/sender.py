"""The sender: which rows are due, which requests they go into, and the position reached; it runs in the main thread."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from rejeu.message import MAX_MESSAGE_BYTES, MAX_REQUEST_MESSAGES
from rejeu.replay.chunk import Chunk
from rejeu.replay.format.wire import Messages, messages, topic_field
from rejeu.replay.send.pacer import Clock, Lateness
from rejeu.replay.send.publisher import Batch, Publisher, Request
from rejeu.timeline import Position, Timeline, format_instant, from_us

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.003
"""The shortest time between two requests: rows that fall due within it go together."""
LONGEST_WAIT_SECONDS: Final = 0.2
MAX_ROWS_BYTES: Final = MAX_MESSAGE_BYTES - 1_000
"""What the topic's name leaves of a request's limit."""
MAX_KEY_REQUEST_BYTES: Final = 1_000_000
"""Most bytes of a request of one ordering key: its limit for a second (https://cloud.google.com/pubsub/quotas)."""


class Sender:
    """Sends rows from `start` on when they are due, by the `timeline` of the replay before, else by one of its own.

    Rows that were due already when it began are counted as owed: the silence before it held them back.
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
        paused: bool = False,
    ) -> None:
        self.lateness = Lateness()
        self._publisher, self._clock = publisher, clock
        self._topic, self._stream, self._epoch = topic_field(publisher.topic), stream, epoch
        self._start = start
        self._paused = self._wants_pause = paused
        self._speed = self._wanted_speed = speed
        now_us = clock.now_us()
        if paused and timeline is not None:
            # Time stood still during the pause. If its beginning was not saved, the cursor shows it.
            event_us = timeline.event_us if start is None else max(timeline.event_us, start.event_us)
            timeline = replace(timeline, event_us=event_us, wall_us=now_us)
        self._timeline = keep_on(timeline, speed, now_us)
        self._owed_until_us = self._timeline.event_at(now_us) if self._timeline and not paused else None
        self._owed = 0
        self._knows_next = False
        self._next_us: int | None = None
        self._chunk: Chunk | None = None
        self._messages: Messages

    @property
    def cursor(self) -> Position | None:
        """The position up to which every row is acknowledged."""
        return self._publisher.acknowledged.cursor or self._start

    @property
    def published(self) -> int:
        """How many rows are acknowledged."""
        return self._publisher.acknowledged.rows

    def pace(self, speed: float | None, *, paused: bool) -> None:
        """Set the speed (None: no waiting) or a pause from the next row on. Any thread may call; no row is skipped."""
        self._wanted_speed, self._wants_pause = speed, paused

    def send(self, chunk: Chunk, at: int) -> int:
        """Send the rows from index `at` on that are due, or wait a little; returns the index of the next row."""
        next_us = int(chunk.event_us[at])
        self._knows_next, self._next_us = True, next_us
        timeline = self._keep_pace(next_us)
        if self._paused:
            self._clock.wait(LONGEST_WAIT_SECONDS)
            return at
        early_us = timeline.due_us(next_us) - self._clock.now_us()
        if early_us > 0:
            self._clock.wait(min(early_us / 1_000_000, LONGEST_WAIT_SECONDS))
            return at
        if not self._publisher.has_room(LONGEST_WAIT_SECONDS):
            return at
        if chunk is not self._chunk:
            self._chunk, self._messages = chunk, messages(chunk, self._stream, self._epoch)
        end = self._fit(chunk, at, timeline)
        reached = partial(chunk.position_after, end)
        self._publisher.send(Batch(self._requests(chunk, at, end), next_us, reached, end - at))
        self._next_us = int(chunk.event_us[end]) if end < len(chunk) else None
        self.lateness.add(timeline, chunk.event_us[at:end], self._clock.now_us())
        if self._owed_until_us is not None:
            self._owed += int(np.searchsorted(chunk.event_us[at:end], self._owed_until_us, side="right"))
        if timeline.speed is not None and end - at < MAX_REQUEST_MESSAGES:
            self._clock.wait(TICK_SECONDS)
        return end

    def reached(self) -> dict[str, Any]:
        """What a checkpoint saves besides the renewal; the keeper's thread calls it."""
        acknowledged, timeline = self._publisher.acknowledged, self._timeline
        fields: dict[str, Any] = {"published": acknowledged.rows, "owed": self._owed, "timeline": timeline}
        if acknowledged.cursor is not None:
            fields |= {
                "cursor": acknowledged.cursor,
                "last_published": acknowledged.last,
                "resumed_at": acknowledged.first,
            }
        if self._knows_next and timeline is not None:
            pending_us = self._publisher.oldest_pending()
            next_us = self._next_us if pending_us is None else pending_us
            due = None if next_us is None or self._paused else from_us(timeline.due_us(next_us))
            fields |= {"next_due": due, "ready": True}
        return fields

    def describe(self) -> str:
        """The progress as a line for a person."""
        acknowledged = self._publisher.acknowledged
        cursor = format_position(acknowledged.cursor) if acknowledged.cursor else "nothing acknowledged yet"
        paused = ", paused" if self._paused else ""
        return f"{self._stream}: {acknowledged.rows:,} rows published{paused}, cursor {cursor}"

    def _keep_pace(self, next_us: int) -> Timeline:
        """The timeline by which the row at `next_us` is due, after any change of pace that was asked for."""
        stepped_us = self._clock.stepped_us()
        now_us = self._clock.now_us()
        if stepped_us and self._timeline is not None:
            # No time went by: what was due in a minute is due in a minute, by the new time of day.
            log.warning("%s: the clock was stepped by %+.1f s: the pace stays", self._stream, stepped_us / 1_000_000)
            self._timeline = replace(self._timeline, wall_us=self._timeline.wall_us + stepped_us)
        # Time begins once rows are there, so that reading does not make the first ones late.
        first_us = next_us if self._start is None else self._start.event_us
        timeline = self._timeline or Timeline(event_us=first_us, wall_us=now_us, speed=self._speed)
        if self._paused:
            # Time stands still: what was due next when the pause began is due when it ends.
            timeline = replace(timeline, wall_us=now_us)
        if self._wanted_speed != self._speed:
            self._speed = self._wanted_speed
            # Where there was no pace before, it begins with the next row.
            begins = replace(timeline, event_us=next_us) if timeline.speed is None else timeline
            timeline = begins.at_speed(self._speed, now_us)
        elif self._wants_pause and not self._paused:
            timeline = timeline.at_speed(self._speed, now_us)
        self._paused = self._wants_pause
        self._timeline = timeline
        return timeline

    def _fit(self, chunk: Chunk, at: int, timeline: Timeline) -> int:
        """The end of the rows from `at` on that are due now and fit into one request; at least the row at `at`."""
        limit = min(at + MAX_REQUEST_MESSAGES, len(chunk))
        if timeline.speed is not None:
            due_us = timeline.event_at(self._clock.now_us())
            limit = at + max(1, int(np.searchsorted(chunk.event_us[at:limit], due_us, side="right")))
        return self._messages.fit(at, limit, MAX_ROWS_BYTES)

    def _requests(self, chunk: Chunk, at: int, end: int) -> list[Request]:
        """One request for all these rows; if they have ordering keys, one for each key, as Pub/Sub wants."""
        if chunk.ordering is None:
            return [Request(self._messages.request(self._topic, at, end), end - at)]
        keys = chunk.ordering[at:end].dictionary_encode()
        codes = keys.indices.to_numpy()
        return [
            Request(self._messages.request_of(self._topic, rows), len(rows), key)
            for code, key in enumerate(keys.dictionary.to_pylist())
            for rows in self._messages.pieces(at + np.flatnonzero(codes == code), MAX_KEY_REQUEST_BYTES)
        ]


def keep_on(timeline: Timeline | None, speed: float | None, now_us: int) -> Timeline | None:
    """The last replay's timeline at this one's speed; None where either has no pace: then time begins anew."""
    if timeline is None or timeline.speed is None or speed is None:
        return None
    return timeline if timeline.speed == speed else timeline.at_speed(speed, now_us)


def format_position(position: Position) -> str:
    """The position for a person to read."""
    return f"{format_instant(from_us(position.event_us))} (+{position.count})"
