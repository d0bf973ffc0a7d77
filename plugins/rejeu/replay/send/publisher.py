"""Publishing: requests of raw protobuf over one channel, several in flight, each retried until it is answered.

What is acknowledged counts only up to the first gap: that position is the cursor. Due times are not known here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, Final
from urllib.parse import quote

import grpc

from rejeu.errors import PublishError, wording
from rejeu.replay.format.wire import topic_field
from rejeu.replay.send.answers import PublishResponse
from rejeu.replay.send.key_queues import KeyQueues
from rejeu.replay.send.timer import Timer
from rejeu.timeline import Position

log = logging.getLogger(__name__)

WINDOW: Final = 8
"""Most requests beyond the cursor: with those since the last checkpoint, they limit the duplicates after a kill."""
MAX_IN_FLIGHT: Final = 1_000
"""Most requests that are sent and not answered: if each row has an ordering key of its own, a batch has a thousand."""
REQUEST_SECONDS: Final = 20.0
CHECK_SECONDS: Final = 5.0
CHECK_AGAIN_SECONDS: Final = 0.2
FIRST_BACKOFF: Final = 0.05
LONGEST_BACKOFF: Final = 2.0
TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
    }
)
"""What Pub/Sub's own clients retry (google.pubsub_v1, PublisherClient.publish)."""
AGAIN: Final = "start again with --from cursor"
REMEDIES: Final = {
    grpc.StatusCode.NOT_FOUND: "create it, or let the stream's live DAG do so",
    grpc.StatusCode.PERMISSION_DENIED: "grant this identity roles/pubsub.publisher",
}


@dataclass(eq=False)
class Request:
    """A PublishRequest as bytes, and how many rows it has; they all have one ordering key, or none."""

    body: bytes
    rows: int
    key: str = ""
    failing_since: float | None = None
    backoff: float = FIRST_BACKOFF


@dataclass(eq=False)
class Batch:
    """Consecutive rows: `first_us` is the first one's event time, `end` gives the position after the last one."""

    requests: list[Request]
    first_us: int
    end: Callable[[], Position]
    rows: int
    under_way: int = field(init=False)

    def __post_init__(self) -> None:
        self.under_way = len(self.requests)


@dataclass(frozen=True)
class Acknowledged:
    """What the topic has acknowledged without a gap: how many rows, the last one's end, first and last instant."""

    rows: int = 0
    end: Callable[[], Position] | None = None
    first: datetime | None = None
    last: datetime | None = None

    @cached_property
    def cursor(self) -> Position | None:
        """The position after these rows. It is made when somebody asks, which is not for each request."""
        return None if self.end is None else self.end()


class Publisher:
    """Sends batches, and retries until each is acknowledged or `error` says why not.

    Only one sender may use it; the transport's threads call back, and any thread may read its attributes.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        topic: str,
        *,
        patience_seconds: float = 60.0,
        may_publish: Callable[[], bool] = lambda: True,
    ) -> None:
        self.topic = topic
        self.acknowledged = Acknowledged()
        self.error: PublishError | None = None
        self._publish = channel.unary_unary(
            "/google.pubsub.v1.Publisher/Publish",
            response_deserializer=PublishResponse.FromString,
        )
        self._get_topic = channel.unary_unary("/google.pubsub.v1.Publisher/GetTopic")
        self._patience = patience_seconds
        self._may_publish = may_publish
        self._pending: deque[Batch] = deque()
        self._in_flight = 0
        self._changed = threading.Condition()
        self._queues = KeyQueues()
        self._timer = Timer()
        self._away_since: float | None = None
        self._closed = False
        self._routing = (("x-goog-request-params", f"topic={quote(topic)}"),)

    def check_topic(self, goes_on: Callable[[], bool]) -> None:
        """Wait until the broker answers, as long as `goes_on` is true. Raises PublishError where the topic is missing.

        An account that may publish but not look at topics learns it from its first request.
        """
        deadline = time.monotonic() + self._patience
        while goes_on():
            try:
                self._get_topic(topic_field(self.topic), timeout=CHECK_SECONDS, metadata=self._routing)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                    return
                if error.code() not in TRANSIENT or time.monotonic() > deadline:
                    raise self._explain(error) from None
                self._note_absence(error)
                time.sleep(CHECK_AGAIN_SECONDS)
                continue
            self._note_presence()
            return

    def has_room(self, seconds: float) -> bool:
        """Whether one more batch may be sent; waits so many seconds for that."""
        with self._changed:
            return self._changed.wait_for(
                lambda: len(self._pending) < WINDOW and self._in_flight < MAX_IN_FLIGHT, seconds
            )

    def send(self, batch: Batch) -> None:
        """Send a batch, without waiting for anything."""
        with self._changed:
            self._pending.append(batch)
        for request in batch.requests:
            if request.key:
                self._queues.enter(request.key, len(request.body), partial(self._go, batch, request))
            else:
                self._start(batch, request)

    def oldest_pending(self) -> int | None:
        """The event time (µs) of the oldest row that is sent and not acknowledged."""
        with self._changed:
            return self._pending[0].first_us if self._pending else None

    def settle(self, seconds: float) -> bool:
        """Wait so many seconds until all is acknowledged, or after an error answered; returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._in_flight if self.error else self._pending), seconds)

    def close(self) -> None:
        """Send nothing any more; call it before the channel is closed."""
        with self._changed:
            self._closed = True
        self._timer.close()

    def _go(self, batch: Batch, request: Request, seconds: float) -> None:
        if seconds > 0:
            self._timer.call(seconds, partial(self._start, batch, request))
        else:
            self._start(batch, request)

    def _start(self, batch: Batch, request: Request) -> None:
        if not self._may_publish():
            # A process that was suspended wakes up here: it sends nothing until its lease is renewed.
            self._go(batch, request, FIRST_BACKOFF)
        else:
            self._call(batch, request)

    def _call(self, batch: Batch, request: Request) -> None:
        with self._changed:  # so that `close` and errors come before or after
            if self._closed or self.error is not None:
                return
            self._in_flight += 1
            timeout = min(REQUEST_SECONDS, self._patience)
            # A future without a reference cancels its call: its own callback keeps one.
            future = self._publish.future(request.body, timeout=timeout, metadata=self._routing)
            future.add_done_callback(lambda done: self._finish(batch, request, done))

    def _finish(self, batch: Batch, request: Request, future: Any) -> None:
        error = future.exception()
        with self._changed:  # so that every thread sees the request either in flight or counted
            self._in_flight -= 1
            if error is None:
                self._answer(batch, request, len(future.result().message_ids))
            elif error.code() in TRANSIENT:
                self._retry(batch, request, error)
            else:
                self._fail(self._explain(error))
            self._changed.notify_all()

    def _answer(self, batch: Batch, request: Request, named: int) -> None:
        if named != request.rows:
            self._fail(
                PublishError(
                    f"{self.topic} acknowledged {named:,} of {request.rows:,} messages of a request: each must have "
                    f"its id; check which server answers for Pub/Sub, then {AGAIN}"
                )
            )
            return
        self._note_presence()
        self._acknowledge(batch)
        if request.key:
            self._queues.leave(request.key)

    def _acknowledge(self, batch: Batch) -> None:
        batch.under_way -= 1
        now = datetime.now(UTC)
        while self._pending and self._pending[0].under_way == 0:
            oldest, before = self._pending.popleft(), self.acknowledged
            self.acknowledged = Acknowledged(before.rows + oldest.rows, oldest.end, before.first or now, now)

    def _retry(self, batch: Batch, request: Request, error: grpc.RpcError) -> None:
        now = time.monotonic()
        request.failing_since = request.failing_since or now
        if now - request.failing_since > self._patience:
            self._fail(self._explain(error))
            return
        self._note_absence(error)
        self._go(batch, request, request.backoff)
        request.backoff = min(request.backoff * 2, LONGEST_BACKOFF)

    def _fail(self, error: PublishError) -> None:
        self.error = self.error or error

    def _note_absence(self, error: grpc.RpcError) -> None:
        with self._changed:
            first, self._away_since = self._away_since is None, self._away_since or time.monotonic()
        if first and not self._closed:
            log.warning("%s: %s; trying again for %g s", self.topic, error.code().name, self._patience)

    def _note_presence(self) -> None:
        with self._changed:
            since, self._away_since = self._away_since, None
        if since is not None:
            log.info("%s: the topic answers again after %.1f s", self.topic, time.monotonic() - since)

    def _explain(self, error: grpc.RpcError) -> PublishError:
        code = error.code()
        away = f"it was away for {self._patience:g} s, and what was acknowledged is saved: {AGAIN} once it is back"
        remedy = away if code in TRANSIENT else REMEDIES.get(code, f"mend that, then {AGAIN}")
        why = ": ".join(filter(None, (code.name, error.details())))
        return PublishError(wording(f"{self.topic} takes no messages", why, remedy))
