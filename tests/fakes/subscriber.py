"""A subscription in memory and a clock, for the DirectRunner's pulls; no fixture and no test."""

from __future__ import annotations

from collections import deque
from typing import Any

from google.pubsub_v1 import PubsubMessage, PullResponse, ReceivedMessage

SUBSCRIPTION = "projects/rejeu-test/subscriptions/rates"
A_PULL_OF_THE_EMULATOR = 100

events: list[str] = []
"""What happened, in order; at module level, for Beam pickles what it runs."""


class FakeSubscriber:
    """A subscription in memory: gives 100 messages a pull, as Google's emulator does, and notes acknowledgements."""

    def __init__(self, row_ids: list[str]) -> None:
        self.waiting = deque(row_ids)
        self.acknowledged: list[str] = []
        self.failure: Exception | None = None
        self.waits: list[bool] = []
        self._pulls = 0

    def pull(self, request: dict[str, Any], timeout: float) -> PullResponse:
        self._raise_failure()
        events.append("pull")
        self.waits.append(not request["return_immediately"])
        count = min(request["max_messages"], A_PULL_OF_THE_EMULATOR, len(self.waiting))
        return PullResponse(received_messages=[self._message(self.waiting.popleft()) for _ in range(count)])

    def acknowledge(self, subscription: str, ack_ids: list[str], timeout: float) -> None:
        self._raise_failure()
        self.acknowledged += ack_ids

    def _raise_failure(self) -> None:
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def _message(self, row_id: str) -> ReceivedMessage:
        self._pulls += 1
        attributes = {"row_id": row_id} if row_id else {}
        message = PubsubMessage(data=b"{}", attributes=attributes, message_id=str(self._pulls), publish_time={})
        return ReceivedMessage(ack_id=f"{row_id}@{self._pulls}", message=message)


class FakeClock:
    """A clock that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now
