"""Pub/Sub for the DirectRunner as on Dataflow: large pulls, each row id once, acknowledged when written.

Beam's own read pulls ten messages and acknowledges them before they are processed. It has no seam, so a private
method is replaced (`tests/beam_jobs/direct/test_pulls.py` fails when Beam changes it). This works because the
DirectRunner has one worker thread and reads again only when nothing else is to be done: at each pull, all messages of
the pulls before it are in the tables. That is the moment to acknowledge them, and to stop.

A SIGKILL loses nothing, because unacknowledged messages come again. Windows outlive a pull: their messages are first
written to the journal (`windows.py`), and a job reads those at its start, before it pulls.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.runners.direct import transform_evaluator
from google.api_core.exceptions import Aborted, DeadlineExceeded, RetryError, ServiceUnavailable, Unknown
from google.cloud.pubsub_v1 import SubscriberClient
from google.pubsub_v1 import PullResponse

from beam_jobs.direct.runner import replaced
from beam_jobs.direct.windows import LocalWindows, RawMessage
from beam_jobs.transforms.counts import Count
from rejeu.message import MAX_REQUEST_MESSAGES, ROW_ID

log = logging.getLogger(__name__)

PULL_SECONDS: Final = 3.0
"""How long a pull waits for a first message, and so for how long a pull may delay a drain."""
POLL_SECONDS: Final = 0.1
"""The same if there are windows, which fall due while no message comes."""
REMEMBER_SECONDS: Final = 600.0
"""How long a row id is remembered, as on Dataflow."""
AWAY: Final = (Aborted, RetryError, ServiceUnavailable, Unknown)


class Taken(NamedTuple):
    """A message in the shape that Beam's read expects."""

    ack_id: str
    message: PubsubMessage


class Pulled(NamedTuple):
    """A pull's answer in the shape that Beam's read expects."""

    received_messages: list[Taken]


class LocalPulls:
    """Replaces the subscriber client in the DirectRunner's read; every call comes from its one thread."""

    def __init__(
        self,
        stream: str,
        subscriber: SubscriberClient,
        on_running: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        windows: LocalWindows | None = None,
    ) -> None:
        self._stream, self._subscriber, self._on_running, self._clock = stream, subscriber, on_running, clock
        self._windows = windows
        self._duplicates = Count(stream, "duplicate")
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._in_hand: list[str] = []
        self._running = self._away = False
        self._draining, self._drained = threading.Event(), threading.Event()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The DirectRunner reads from here while the block runs."""
        with (
            replaced(
                transform_evaluator._PubSubReadEvaluator, _get_subscriber_client=staticmethod(lambda transform: self)
            ),
            self._windows.installed() if self._windows else nullcontext(),
        ):
            yield

    def drain(self, timeout: float) -> bool:
        """Stop pulling, and wait until what was pulled is written and acknowledged; False where that took too long."""
        self._draining.set()
        return self._drained.wait(timeout)

    def pull(self, subscription: str, **_: Any) -> Pulled:
        """Up to 1,000 messages whose row ids are new; none while Pub/Sub does not answer."""
        if not self._running:
            self._running = True
            self._on_running()
        try:
            self._acknowledge_written(subscription)
            if self._draining.is_set():
                self._drained.set()
                return Pulled([])
            if self._windows and (again := self._windows.again()):
                return _pulled(("", each) for each in again)
            received = self._receive(subscription)
        except DeadlineExceeded:
            # No message came: the emulator answers after two seconds, other servers wait as long as we do.
            return Pulled([])
        except AWAY as error:
            self._log_away(error)
            return Pulled([])
        self._away = False
        return _pulled((each.ack_id, each.message) for each in self._new_only(received))

    def acknowledge(self, subscription: str, ack_ids: list[str]) -> None:
        """Beam has the messages; they are acknowledged to Pub/Sub at the next pull, when they are written."""
        self._in_hand.extend(filter(None, ack_ids))

    def _acknowledge_written(self, subscription: str) -> None:
        while self._in_hand:
            part = self._in_hand[:MAX_REQUEST_MESSAGES]
            self._subscriber.acknowledge(subscription=subscription, ack_ids=part, timeout=PULL_SECONDS)
            del self._in_hand[: len(part)]

    def _receive(self, subscription: str) -> list[Any]:
        """One pull that waits, then more that do not: the emulator returns at most 100 messages a pull.

        With windows, no pull waits.
        """
        received: list[Any] = []
        part = self._pull(subscription, MAX_REQUEST_MESSAGES, wait=self._windows is None)
        if self._windows and not part:
            self._draining.wait(POLL_SECONDS)
        while part:
            received += part
            room = MAX_REQUEST_MESSAGES - len(received)
            part = self._pull(subscription, room, wait=False) if room else []
        return received

    def _pull(self, subscription: str, room: int, wait: bool) -> list[Any]:
        request = {"subscription": subscription, "max_messages": room, "return_immediately": not wait}
        return list(PullResponse.pb(self._subscriber.pull(request=request, timeout=PULL_SECONDS)).received_messages)

    def _new_only(self, received: list[Any]) -> list[Any]:
        now = self._clock()
        while self._seen and next(iter(self._seen.values())) < now - REMEMBER_SECONDS:
            self._seen.popitem(last=False)
        row_ids = [each.message.attributes.get(ROW_ID) or each.message.message_id for each in received]
        messages = (each.message for each in received)
        known = self._windows.keep(dict(zip(row_ids, messages, strict=True))) if self._windows and received else set()
        new = []
        for row_id, each in zip(row_ids, received, strict=True):
            if row_id in self._seen or row_id in known:
                self._duplicates.add()
                self._in_hand.append(each.ack_id)
            else:
                self._seen[row_id] = now
                new.append(each)
        return new

    def _log_away(self, error: Exception) -> None:
        if self._windows:
            self._windows.stay()
        if not self._away:
            log.warning("%s: Pub/Sub does not answer, waiting for it: %s", self._stream, error)
        self._away = True


def _pulled(messages: Iterable[tuple[str, RawMessage]]) -> Pulled:
    """Messages for Beam's read, by their acknowledgement ids.

    All get the time of the pull: their publish time is not used, and Beam keeps messages of one time together.
    """
    now = datetime.now(UTC)
    return Pulled(
        [
            Taken(ack_id, PubsubMessage(each.data, each.attributes, each.message_id, now, each.ordering_key))
            for ack_id, each in messages
        ]
    )
