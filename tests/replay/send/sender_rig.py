"""What the sender's tests share: a sender with a fake clock and a fake publisher; no fixture and no test."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from google.pubsub_v1 import types

from rejeu.replay.chunk import Chunk
from rejeu.replay.send.publisher import Acknowledged, Batch, Request
from rejeu.replay.send.sender import Sender
from rejeu.timeline import Position, from_us
from tests.fakes.replay_clock import NOW, SECOND, FakeClock
from tests.replay.rows import T0, TOPIC, chunk_of

PublishRequest = types.PublishRequest.pb()


class FakePublisher:
    """Keeps what it is given, with the time; acknowledges on command."""

    topic = TOPIC

    def __init__(self, clock: FakeClock) -> None:
        self.acknowledged = Acknowledged()
        self.room = True
        self.sent: list[tuple[int, Batch]] = []
        self._pending: deque[Batch] = deque()
        self._clock = clock

    def has_room(self, seconds: float) -> bool:
        return self.room

    def send(self, batch: Batch) -> None:
        self.sent.append((self._clock.us, batch))
        self._pending.append(batch)

    def oldest_pending(self) -> int | None:
        return self._pending[0].first_us if self._pending else None

    def acknowledge(self) -> None:
        batch, before, now = self._pending.popleft(), self.acknowledged, from_us(self._clock.us)
        self.acknowledged = Acknowledged(before.rows + batch.rows, batch.end, before.first or now, now)


class SenderRig:
    """A sender, its clock, and the publisher it sends to."""

    def __init__(self, speed: float | None = 1.0, **options: Any) -> None:
        self.clock = FakeClock()
        self.publisher = FakePublisher(self.clock)
        given: dict[str, Any] = {"stream": "clicks", "epoch": 3, "start": None, "timeline": None} | options
        self.sender = Sender(self.publisher, self.clock, speed=speed, **given)  # type: ignore[arg-type]

    def send_all(self, chunk: Chunk, at: int = 0) -> None:
        while at < len(chunk):
            at = self.sender.send(chunk, at)

    def send_for(self, chunk: Chunk, at: int, seconds: float) -> int:
        """Send from index `at` on for so long; the index of the next row."""
        end_us = self.clock.us + round(seconds * SECOND)
        while at < len(chunk) and self.clock.us < end_us:
            at = self.sender.send(chunk, at)
        return at

    @staticmethod
    def bodies(request: Request) -> list[bytes]:
        return [message.data for message in PublishRequest.FromString(request.body).messages]

    @property
    def sent(self) -> list[tuple[int, list[bytes]]]:
        """When each request was sent, in microseconds from the beginning, and its bodies."""
        return [
            (us - NOW, [body for request in batch.requests for body in self.bodies(request)])
            for us, batch in self.publisher.sent
        ]

    @property
    def ends(self) -> list[Position]:
        return [batch.end() for _, batch in self.publisher.sent]


def rows(*seconds: float, size: int = 0, ordering: Sequence[str] | None = None) -> Chunk:
    """Rows so many seconds after T0; their bodies are their numbers, filled up to a size."""
    times = [T0 + round(second * SECOND) for second in seconds]
    return chunk_of([(us, f"clicks/{us}/k/0", (b"%d" % n).ljust(size)) for n, us in enumerate(times)], ordering)
