"""The chaos's own tap sees each message, with its row and its epoch, before and after its broker was killed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest
from google.pubsub_v1 import types

from tests.chaos.collector import PROJECT, Topic
from tests.chaos.stack.scene import wait_until
from tests.chaos.stack.tap import Tap
from tests.emulated.pubsub_feed import PubSubServer

pytestmark = pytest.mark.emulated

TOPIC = f"{PROJECT}/topics/tapped"
PublishRequest = types.PublishRequest.pb()


@pytest.fixture
def broker() -> Iterator[PubSubServer]:
    server = PubSubServer("built-in")
    server.start()
    yield server
    server.kill()


class Feed:
    """Publishes rows on the topic, which it makes."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._call("CreateTopic", Topic(name=TOPIC))

    def publish(self, number: int, epoch: int) -> None:
        request = PublishRequest(topic=TOPIC)
        attributes = request.messages.add(data=b"{}").attributes
        attributes.update({"row_id": f"tapped/1709249400000000/{number}/0", "epoch": str(epoch)})
        self._call("Publish", request)

    def publish_until_seen(self, tap: Tap, number: int, epoch: int) -> None:
        """The tap subscribes when it finds the topic: what came before that is not for it."""

        def seen() -> bool:
            self.publish(number, epoch)
            return tap.furthest >= number

        wait_until(seen, f"row {number} did not come")

    def _call(self, method: str, request: object) -> None:
        serialize = type(request).SerializeToString  # type: ignore[attr-defined]
        self._channel.unary_unary(f"/google.pubsub.v1.Publisher/{method}", serialize)(request, timeout=10)


def test_a_tap_sees_rows_and_epochs_and_goes_on_with_a_broker_that_forgot_everything(broker: PubSubServer) -> None:
    with Tap(broker.address, TOPIC) as tap:
        before = time.time()
        Feed(broker.address).publish_until_seen(tap, 7, epoch=1)
        assert {(each.number, each.epoch) for each in tap.arrivals} == {(7, 1)}
        assert before < tap.arrivals[0].published <= tap.arrivals[0].arrived
        broker.kill()
        killed = time.time()
        broker.start()
        Feed(broker.address).publish_until_seen(tap, 8, epoch=2)
        following = tap.next_after(killed, epoch=1)
        assert following is not None
        assert (following.number, following.epoch) == (8, 2)
        assert tap.next_after(killed, epoch=2) is None
        assert tap.since(0) == tap.arrivals
