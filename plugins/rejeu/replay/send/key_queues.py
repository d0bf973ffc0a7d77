"""Ordering keys: one request of a key at a time, and no key faster than Pub/Sub's limit; nothing is sent here."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

KEY_BYTES_PER_SECOND: Final = 1_000_000
"""Pub/Sub's limit for one ordering key (https://cloud.google.com/pubsub/quotas)."""

FEW: Final = 1_000
"""Above so many keys, those that are finished are removed."""

Go = Callable[[float], None]
"""Sends a request after so many seconds."""


@dataclass
class _KeyQueue:
    waiting: deque[tuple[int, Go]] = field(default_factory=deque)
    busy: bool = False
    free_at: float = 0.0

    def is_done(self) -> bool:
        return not self.busy and not self.waiting and self.free_at <= time.monotonic()


class KeyQueues:
    """A queue for each key that has a request under way: a request is sent once the one before it has arrived."""

    def __init__(self) -> None:
        self._queues: dict[str, _KeyQueue] = {}
        self._many = FEW
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many keys it knows."""
        return len(self._queues)

    def enter(self, key: str, size: int, go: Go) -> None:
        """Call `go` when the key may send so many bytes: at once, if none of its requests is under way."""
        with self._lock:
            if len(self._queues) >= self._many:
                self._forget()
            self._queues.setdefault(key, _KeyQueue()).waiting.append((size, go))
        self._next(key)

    def leave(self, key: str) -> None:
        """The key's request has arrived: the next one may go."""
        with self._lock:
            self._queues[key].busy = False
        self._next(key)

    def _forget(self) -> None:
        """Remove keys that are finished: there may be millions, and most never come again."""
        self._queues = {key: lane for key, lane in self._queues.items() if not lane.is_done()}
        self._many = max(FEW, 2 * len(self._queues))

    def _next(self, key: str) -> None:
        with self._lock:
            lane = self._queues.get(key)
            if lane is None or lane.busy or not lane.waiting:
                return
            size, go = lane.waiting.popleft()
            now = time.monotonic()
            starts = max(now, lane.free_at)
            lane.busy, lane.free_at = True, starts + size / KEY_BYTES_PER_SECOND
        go(starts - now)
