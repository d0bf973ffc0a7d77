"""A subscriber that takes everything a topic delivers, in the order of delivery, while a round goes on."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import grpc
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types

from rejeu.message import EPOCH, ROW_ID

Topic, Subscription = types.Topic.pb(), types.Subscription.pb()
PullRequest, PullResponse = types.PullRequest.pb(), types.PullResponse.pb()
AcknowledgeRequest = types.AcknowledgeRequest.pb()
DeleteSubscriptionRequest, DeleteTopicRequest = types.DeleteSubscriptionRequest.pb(), types.DeleteTopicRequest.pb()

PROJECT: Final = "projects/rejeu-chaos"
PULLED: Final = 1_000
EMPTY_SECONDS: Final = 0.02
CALL_SECONDS: Final = 20.0
SETTLED_SECONDS: Final = 0.5
"""How long nothing may come, after the last row, until it is believed that nothing will."""
GIVEN_UP_SECONDS: Final = 6.0
"""The same while rows are missing."""


@dataclass(frozen=True, slots=True)
class Got:
    """One delivery; `published_us` is the broker's stamp, microseconds since the epoch."""

    message_id: str
    row_id: str
    epoch: int
    ordering_key: str
    published_us: int
    data: bytes


class Collector:
    """Makes a topic and a subscription, and pulls from it in a thread; `got` grows meanwhile."""

    def __init__(self, address: str, *, ordered: bool) -> None:
        name = f"c{uuid.uuid4().hex}"
        self.topic = f"{PROJECT}/topics/{name}"
        self.got: list[Got] = []
        self._channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])
        self._call("Publisher/CreateTopic", Topic(name=self.topic), Topic)
        self._subscription = Subscription(
            name=f"{PROJECT}/subscriptions/{name}",
            topic=self.topic,
            enable_message_ordering=ordered,
            ack_deadline_seconds=60,
        )
        self._call("Subscriber/CreateSubscription", self._subscription, Subscription)
        self._came = time.monotonic()
        self._done = False
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind: Google's emulator keeps what a subscription ever had."""
        self._done = True
        self._thread.join()
        delete_subscription = DeleteSubscriptionRequest(subscription=self._subscription.name)
        self._call("Subscriber/DeleteSubscription", delete_subscription, Empty)
        self._call("Publisher/DeleteTopic", DeleteTopicRequest(topic=self.topic), Empty)
        self._channel.close()

    def finish(self, rows: int) -> list[Got]:
        """Everything, once so many different rows came and no more do; what there is, where they do not."""
        while True:
            complete = len({each.row_id for each in list(self.got)}) >= rows
            time.sleep(SETTLED_SECONDS)
            quiet = time.monotonic() - self._came
            if quiet > (SETTLED_SECONDS if complete else GIVEN_UP_SECONDS):
                return list(self.got)

    def _run(self) -> None:
        pull = PullRequest(subscription=self._subscription.name, max_messages=PULLED, return_immediately=True)
        while not self._done:
            received = self._call("Subscriber/Pull", pull, PullResponse).received_messages
            if not received:
                time.sleep(EMPTY_SECONDS)
                continue
            self._came = time.monotonic()
            self.got += [_got(each.message) for each in received]
            acknowledge = AcknowledgeRequest(
                subscription=self._subscription.name, ack_ids=[each.ack_id for each in received]
            )
            self._call("Subscriber/Acknowledge", acknowledge, Empty)

    def _call(self, method: str, request: Any, response: Any) -> Any:
        call = self._channel.unary_unary(
            f"/google.pubsub.v1.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request, timeout=CALL_SECONDS)


def _got(message: Any) -> Got:
    attributes, published = message.attributes, message.publish_time
    return Got(
        message_id=message.message_id,
        row_id=attributes[ROW_ID],
        epoch=int(attributes[EPOCH]),
        ordering_key=message.ordering_key,
        published_us=published.seconds * 1_000_000 + published.nanos // 1_000,
        data=message.data,
    )
