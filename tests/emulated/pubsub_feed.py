"""A Pub/Sub server of either kind, and a feed to try it with; no fixture and no test."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import google.pubsub_v1 as pubsub_v1_api
import grpc
import pytest
from google.cloud import pubsub_v1
from google.pubsub_v1.types import ReceivedMessage

from rejeu.local.processes.ports import free_port
from rejeu.local.servers.pubsub_emulator import find_google_emulator
from tests.paths import PLUGINS

BUILT_IN = [sys.executable, "-m", "rejeu.local.servers.pubsub"]
COMMANDS = {"built-in": BUILT_IN} | ({"google": google} if (google := find_google_emulator()) else {})
PROJECT_ID = "rejeu-contract"
PROJECT = f"projects/{PROJECT_ID}"
WAIT_SECONDS = 120
"""As long as a busy machine may take; only a test that fails waits for so long."""

built_in_only = pytest.mark.parametrize("pubsub", ["built-in"], indirect=True)
"""For what Google's emulator does otherwise than the cloud."""


class PubSubServer:
    """One Pub/Sub server on a port of its own, which it keeps over a restart."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.address = f"127.0.0.1:{free_port()}"

    def start(self) -> None:
        """Start it and return when it answers."""
        host, port = self.address.split(":")
        self._process = subprocess.Popen(
            [*COMMANDS[self.kind], f"--host={host}", f"--port={port}"],
            env=os.environ | {"PYTHONPATH": str(PLUGINS)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with grpc.insecure_channel(self.address) as channel:
            grpc.channel_ready_future(channel).result(timeout=WAIT_SECONDS)

    def kill(self) -> None:
        """SIGKILL: whatever it holds is gone."""
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Feed:
    """A fresh topic with one subscription, and the clients to use them."""

    publisher: pubsub_v1.PublisherClient
    subscriber: pubsub_v1.SubscriberClient
    topic: str
    subscription: str

    def publish(self, *bodies: bytes, **fields: Any) -> list[str]:
        """Publish the bodies in one request."""
        return self.send([{"data": body, **fields} for body in bodies])

    def send(self, messages: list[dict[str, Any]], topic: str = "") -> list[str]:
        """Publish messages in one request, without the batches and the retries of `PublisherClient.publish`."""
        request = {"topic": topic or self.topic, "messages": messages}
        return list(pubsub_v1_api.PublisherClient.publish(self.publisher, request=request, retry=None).message_ids)

    def pull(self, at_least: int = 1, *, limit: int = 1_000, subscription: str = "") -> list[ReceivedMessage]:
        """Pull until `at_least` messages came; fails when they do not."""
        received: list[ReceivedMessage] = []
        deadline = time.monotonic() + WAIT_SECONDS
        while len(received) < at_least:
            assert time.monotonic() < deadline, f"{len(received)} of {at_least} messages came"
            response = self.subscriber.pull(
                subscription=subscription or self.subscription, max_messages=limit, timeout=WAIT_SECONDS
            )
            received += response.received_messages
        return received

    def set_deadline(self, received: Iterable[ReceivedMessage], seconds: int) -> None:
        """Give the messages `seconds` from now; 0 gives them back."""
        ack_ids = [message.ack_id for message in received]
        self.subscriber.modify_ack_deadline(
            subscription=self.subscription, ack_ids=ack_ids, ack_deadline_seconds=seconds
        )

    def acknowledge(self, received: Iterable[ReceivedMessage]) -> None:
        """Have them dropped."""
        self.subscriber.acknowledge(subscription=self.subscription, ack_ids=[message.ack_id for message in received])

    def add_subscription(self, **options: Any) -> str:
        """Create one more subscription and return its name."""
        name = f"{PROJECT}/subscriptions/s{uuid.uuid4().hex}"
        self.subscriber.create_subscription(request={"name": name, "topic": self.topic, **options})
        return name

    def create(self) -> None:
        """Create the topic and the subscription."""
        self.publisher.create_topic(name=self.topic)
        self.subscriber.create_subscription(name=self.subscription, topic=self.topic)


def bodies(received: Iterable[ReceivedMessage]) -> list[bytes]:
    """The data of the messages."""
    return [message.message.data for message in received]
