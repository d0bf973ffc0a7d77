"""A subscriber of the chaos's own on one topic: notes which rows came and when, and outlives its broker."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import grpc
from google.protobuf.empty_pb2 import Empty

from rejeu.message import EPOCH, ROW_ID
from tests.chaos.collector import (
    PULLED,
    AcknowledgeRequest,
    PullRequest,
    PullResponse,
    Subscription,
)

SEEN: Final = "-seen"
"""What its subscription has behind the topic's name."""
PULL_SECONDS: Final = 15.0
AGAIN_SECONDS: Final = 0.05
RECONNECT: Final = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200))


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message: its row's number, and when it was published and came, seconds since the epoch of clocks.

    `epoch` is that of the replay; 0 for what a reconciliation published again.
    """

    number: int
    epoch: int
    published: float
    arrived: float


class Tap:
    """Pulls in a thread; `arrivals` grows meanwhile."""

    def __init__(self, address: str, topic: str) -> None:
        self.arrivals: list[Arrival] = []
        self.furthest = -1
        """The highest number that came."""
        self._subscription = Subscription(
            name=f"{topic.replace('/topics/', '/subscriptions/')}{SEEN}", topic=topic, ack_deadline_seconds=60
        )
        self._channel = grpc.insecure_channel(address, options=RECONNECT)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tap of {topic}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._channel.close()
        self._thread.join()

    def next_after(self, seconds: float, epoch: int) -> Arrival | None:
        """The first arrival after this time of a later epoch than this one."""
        return next((each for each in self.since(seconds) if each.epoch > epoch), None)

    def since(self, seconds: float) -> list[Arrival]:
        """What came after this time, in its order."""
        return [each for each in list(self.arrivals) if each.arrived > seconds]

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                self._pull()
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    self._done.wait(AGAIN_SECONDS)
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    self._subscribe()
            except ValueError:  # how gRPC says that the channel was closed
                if not self._done.is_set():
                    raise

    def _pull(self) -> None:
        request = PullRequest(subscription=self._subscription.name, max_messages=PULLED)
        received = self._call("Pull", request, PullResponse).received_messages
        if not received:
            return
        arrived = time.time()
        self.arrivals += [_arrival(each.message, arrived) for each in received]
        self.furthest = max(self.furthest, *(each.number for each in self.arrivals[-len(received) :]))
        ack_ids = [each.ack_id for each in received]
        self._call("Acknowledge", AcknowledgeRequest(subscription=self._subscription.name, ack_ids=ack_ids), Empty)

    def _subscribe(self) -> None:
        """The topic may not be there yet, or not again: whoever makes it is somebody else."""
        with suppress(grpc.RpcError):
            self._call("CreateSubscription", self._subscription, Subscription)

    def _call(self, method: str, request: Any, response: Any) -> Any:
        call = self._channel.unary_unary(
            f"/google.pubsub.v1.Subscriber/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request, timeout=PULL_SECONDS)


def _arrival(message: Any, arrived: float) -> Arrival:
    """The row id is `<stream>/<event time>/<key>/<ordinal>`, and the key of these streams is the row's number."""
    published = message.publish_time
    return Arrival(
        number=int(message.attributes[ROW_ID].split("/")[2]),
        epoch=int(message.attributes.get(EPOCH, "0")),
        published=published.seconds + published.nanos / 1e9,
        arrived=arrived,
    )
