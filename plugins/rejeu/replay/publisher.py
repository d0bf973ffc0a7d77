"""Publishing: requests of raw protobuf over one channel, several in flight, each awaited, retried and accounted for.

What is acknowledged counts only up to the first gap: that place is the cursor. What is due is not known here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import grpc
from google.pubsub_v1 import types

from rejeu.errors import PublishError
from rejeu.message import EPOCH, EVENT_TIME, ROW_ID, STREAM
from rejeu.timeline import Position

log = logging.getLogger(__name__)

PublishRequest = types.PublishRequest.pb()
PublishResponse = types.PublishResponse.pb()
GetTopicRequest = types.GetTopicRequest.pb()
Topic = types.Topic.pb()

WINDOW: Final = 8
"""Requests beyond the cursor: with what the last checkpoint missed, they bound the duplicates that a kill makes."""
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


@dataclass
class Batch:
    """Rows of one request: `first_us` is the first one's event time, `end` the place behind the last one."""

    request: Any
    first_us: int
    end: Position
    rows: int
    acknowledged: bool = False
    failed: bool = False
    failing_since: float | None = None
    backoff: float = FIRST_BACKOFF


@dataclass(frozen=True)
class Acknowledged:
    """What the topic has acknowledged without a gap: how many rows, the place behind them, first and last instant."""

    rows: int = 0
    cursor: Position | None = None
    first: datetime | None = None
    last: datetime | None = None


class Publisher:
    """Sends batches and sends them again until each is acknowledged or `error` says why not.

    For one sender; the transport's threads call back, and everything may be read from any thread.
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
            request_serializer=PublishRequest.SerializeToString,
            response_deserializer=PublishResponse.FromString,
        )
        self._get_topic = channel.unary_unary(
            "/google.pubsub.v1.Publisher/GetTopic",
            request_serializer=GetTopicRequest.SerializeToString,
            response_deserializer=Topic.FromString,
        )
        self._patience = patience_seconds
        self._may_publish = may_publish
        self._pending: deque[Batch] = deque()
        self._changed = threading.Condition()
        self._away_since: float | None = None
        self._closed = False
        self._routing = (("x-goog-request-params", f"topic={quote(topic)}"),)

    def check_topic(self, goes_on: Callable[[], bool]) -> None:
        """Wait until the broker answers, as long as `goes_on` says so; raise PublishError where the topic is missing.

        Whoever may publish need not have the right to ask: then the first request tells.
        """
        deadline = time.monotonic() + self._patience
        while goes_on():
            try:
                self._get_topic(GetTopicRequest(topic=self.topic), timeout=CHECK_SECONDS, metadata=self._routing)
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
        """Whether one more batch may be sent; waits so long for it to be."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._pending) < WINDOW, seconds)

    def send(self, batch: Batch) -> None:
        """Hand a batch over, without waiting for anything."""
        with self._changed:
            self._pending.append(batch)
        self._start(batch)

    def oldest_pending(self) -> int | None:
        """The event time (µs) of the oldest row that is sent and not acknowledged."""
        with self._changed:
            return self._pending[0].first_us if self._pending else None

    def settle(self, seconds: float) -> bool:
        """Whether nothing is under way any more, each batch acknowledged or failed; waits so long for it to be."""
        with self._changed:
            return self._changed.wait_for(
                lambda: all(batch.acknowledged or batch.failed for batch in self._pending), seconds
            )

    def close(self) -> None:
        """Send nothing any more: to be called before the channel is closed."""
        with self._changed:
            self._closed = True

    def _start(self, batch: Batch) -> None:
        if self.error is not None:
            self._fail(batch, self.error)
        elif not self._may_publish():
            # A process that was paused wakes up here: it sends nothing until it knows that the stream is still its own.
            self._later(FIRST_BACKOFF, batch)
        else:
            self._call(batch)

    def _call(self, batch: Batch) -> None:
        with self._changed:  # so that `close` cannot come between
            if not self._closed:
                timeout = min(REQUEST_SECONDS, self._patience)
                # Nobody else holds the future, and a forgotten one cancels its call: its own callback keeps it.
                future = self._publish.future(batch.request, timeout=timeout, metadata=self._routing)
                future.add_done_callback(lambda done: self._finish(batch, done))

    def _finish(self, batch: Batch, future: Any) -> None:
        error = future.exception()
        if error is not None:
            if error.code() in TRANSIENT:
                self._retry(batch, error)
            else:
                self._fail(batch, self._explain(error))
            return
        named = len(future.result().message_ids)
        if named == batch.rows:
            self._acknowledge(batch)
        else:
            self._fail(
                batch,
                PublishError(
                    f"{self.topic} acknowledged {named:,} of {batch.rows:,} messages of a request: every one must have "
                    "its id; see what answers in Pub/Sub's place, then start again with --from cursor"
                ),
            )

    def _acknowledge(self, batch: Batch) -> None:
        self._note_presence()
        with self._changed:
            batch.acknowledged = True
            now = datetime.now(UTC)
            while self._pending and self._pending[0].acknowledged:
                oldest, before = self._pending.popleft(), self.acknowledged
                self.acknowledged = Acknowledged(before.rows + oldest.rows, oldest.end, before.first or now, now)
            self._changed.notify_all()

    def _retry(self, batch: Batch, error: grpc.RpcError) -> None:
        now = time.monotonic()
        batch.failing_since = batch.failing_since or now
        if now - batch.failing_since > self._patience:
            self._fail(batch, self._explain(error))
            return
        self._note_absence(error)
        self._later(batch.backoff, batch)
        batch.backoff = min(batch.backoff * 2, LONGEST_BACKOFF)

    def _later(self, seconds: float, batch: Batch) -> None:
        if self._closed:
            return
        timer = threading.Timer(seconds, self._start, (batch,))
        timer.daemon = True
        timer.start()

    def _fail(self, batch: Batch, error: PublishError) -> None:
        with self._changed:
            batch.failed = True
            self.error = self.error or error
            self._changed.notify_all()

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
        if code is grpc.StatusCode.NOT_FOUND:
            return PublishError(f"{self.topic} does not exist: create it, or let the stream's live DAG do so")
        if code is grpc.StatusCode.PERMISSION_DENIED:
            return PublishError(f"{self.topic} may not be written by this identity: grant it roles/pubsub.publisher")
        if code in TRANSIENT:
            return PublishError(
                f"{self.topic} did not answer for {self._patience:g} s ({code.name}: {error.details()}): what was "
                "acknowledged is saved; start again with --from cursor once the broker is back"
            )
        return PublishError(
            f"{self.topic} refuses the messages: {code.name}: {error.details()}: mend that, then start again with "
            "--from cursor"
        )


def build_request(topic: str, rows: Sequence[tuple[bytes, str, str]], stream: str, epoch: str) -> Any:
    """A PublishRequest of (data, row id, event time) triples.

    `messages.add` and item assignment are a fifth of the cost of `Message(attributes={})`.
    """
    request = PublishRequest(topic=topic)
    add = request.messages.add
    for data, row_id, event_time in rows:
        attributes = add(data=data).attributes
        attributes[ROW_ID] = row_id
        attributes[EVENT_TIME] = event_time
        attributes[STREAM] = stream
        attributes[EPOCH] = epoch
    return request
