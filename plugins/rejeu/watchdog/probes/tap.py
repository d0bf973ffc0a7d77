"""The tap: a second subscription of the topic, which says what really arrived. Whether rows were due it cannot know."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rejeu.errors import RejeuError
from rejeu.gcp import clients
from rejeu.gcp.errors import asking_google
from rejeu.ports import ProbeKind, Reason, Signal, Verdict
from rejeu.timeline import format_instant

TAP: Final = "tap"
PULL_MESSAGES: Final = 50
"""Every delivery is billed: a look takes a few messages, and has Pub/Sub drop the rest unread."""
PULL_SECONDS: Final = 1.0
"""How long Pub/Sub may wait for a message where none is there."""
ANSWER_SECONDS: Final = 0.5
"""How long it may take for anything else: less than for a pull, so that a pull had its chance."""


class TapProbe:
    """Silence is `silence` without a message, counted from the last one's `publish_time`, by Pub/Sub's clock.

    The newest message is not acknowledged but given back, and whoever looks next finds it: probes that share a tap do
    not take each other's messages away, and a new one knows what those before it knew, as long as the tap keeps it.

    A check asks only where the last message is older than half the silence: milliseconds, PULL_SECONDS where the tap is
    empty, two seconds at most where Pub/Sub is away. It pulls once; where more waits than two pulls take, all but the
    last quarter of a silence is dropped by a seek, and it pulls again. Had the last message been among those, silence
    would count from the seek's instant: a little late, never early.
    """

    def __init__(self, subscription: str, silence: timedelta, last_seen: datetime | None = None) -> None:
        """`subscription` is its full name. Silence counts from `last_seen`, or the first check, until one comes."""
        self._subscription = subscription
        self._silence = silence
        self._last_seen = last_seen
        self._began: datetime | None = None
        self._excused: datetime | None = None
        self._answered: datetime | None = None
        self._trouble = ""

    def check(self, now: datetime) -> Verdict:
        """FLOWING, SILENT, or UNKNOWN where nothing came yet or Pub/Sub does not answer, which is never silence.

        Raises RejeuError where the tap is missing or may not be read.
        """
        self._began = self._began or now
        if not self._is_fresh(now):
            self._ask(now)
        lost_at = max(filter(None, (self._last_seen, self._excused)), default=self._began)
        silent_at = lost_at + self._silence
        if self._answered is not None and silent_at <= self._answered:
            detail = f"nothing arrives at {self._subscription} since {format_instant(lost_at)}"
            return Verdict(Signal.SILENT, self._last_seen, lost_at, detail, Reason.NOTHING_ARRIVES, TAP)
        flowing = self._last_seen is not None and now < self._last_seen + self._silence
        return Verdict(
            Signal.FLOWING if flowing else Signal.UNKNOWN,
            self._last_seen,
            detail=self._trouble,
            probe=TAP,
            look_again=max(silent_at, now),
        )

    def excuse(self, until: datetime) -> None:
        """Silence counts from then on: nothing was due before, or nobody knows."""
        self._excused = max(until, self._excused or until)

    def _is_fresh(self, now: datetime) -> bool:
        return self._last_seen is not None and now < self._last_seen + self._silence / 2

    def _ask(self, now: datetime) -> None:
        from google.api_core.exceptions import ServerError, TooManyRequests

        with self._asking():
            try:
                self._look(now)
            except (ServerError, TooManyRequests) as error:
                self._trouble = f"{self._subscription} does not answer: {error}"
            else:
                self._answered, self._trouble = now, ""

    def _look(self, now: datetime) -> None:
        # A pull may bring less than there is. What two of them leave is a backlog, which pulls would never catch up.
        if self._pull(now) and not self._is_fresh(now) and self._pull(now) and not self._is_fresh(now):
            horizon = now - self._silence / 4
            self._drop_before(horizon)
            self.excuse(horizon)
            self._pull(now)

    def _pull(self, now: datetime) -> bool:
        """Whether more may wait than what came."""
        from google.api_core.exceptions import DeadlineExceeded
        from google.pubsub_v1.types import PullResponse

        request = {"subscription": self._subscription, "max_messages": PULL_MESSAGES}
        try:
            pulled = clients.subscriber_client().pull(request=request, timeout=PULL_SECONDS, retry=None)
        except DeadlineExceeded:
            # No message, or nobody there? A seek that changes nothing needs no other right than the pull.
            self._drop_before(self._last_seen or now - self._silence)
            return False
        received = PullResponse.pb(pulled).received_messages
        return bool(received) and self._keep_newest(received)

    def _keep_newest(self, received: Sequence[Any]) -> bool:
        *older, newest = sorted(received, key=lambda each: each.message.publish_time.ToNanoseconds())
        published = newest.message.publish_time.ToDatetime(tzinfo=UTC)
        known, self._last_seen = self._last_seen, max(published, self._last_seen or published)
        client = clients.subscriber_client()
        request = {"subscription": self._subscription, "ack_ids": [newest.ack_id], "ack_deadline_seconds": 0}
        client.modify_ack_deadline(request=request, timeout=ANSWER_SECONDS, retry=None)
        if older:
            request = {"subscription": self._subscription, "ack_ids": [each.ack_id for each in older]}
            client.acknowledge(request=request, timeout=ANSWER_SECONDS, retry=None)
        return bool(older) or published != known

    def _drop_before(self, instant: datetime) -> None:
        request = {"subscription": self._subscription, "time": instant}
        clients.subscriber_client().seek(request=request, timeout=ANSWER_SECONDS, retry=None)

    def _asking(self) -> AbstractContextManager[None]:
        return asking_google(
            RejeuError,
            f"{self._subscription} cannot be read",
            "look at its settings",
            forbidden="grant roles/pubsub.subscriber",
            missing="run the stream's live DAG, which makes it",
        )


PROBE = ProbeKind(
    lambda watched: TapProbe(watched.tap, watched.silence, watched.last_seen), sees_delivery=True, needs_tap=True
)
