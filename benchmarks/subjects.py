"""The ways to publish that are compared: ours, Google's client, and the ceiling; each publishes a feed once.

A subject gets the feed and a stopwatch, times only the publishing, and returns how many messages the server
acknowledged.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import grpc
from google.cloud.pubsub_v1 import PublisherClient
from google.cloud.pubsub_v1.types import BatchSettings

from benchmarks.feed import FIRST_EPOCH, STREAM_NAME, TOPIC, Feed
from benchmarks.measure import Stopwatch
from benchmarks.processes import report_of
from rejeu.gcp.clients import publisher_channel
from rejeu.replay.send.answers import PublishResponse
from rejeu.replay.send.pacer import Clock
from rejeu.replay.send.publisher import WINDOW, Publisher
from rejeu.replay.send.sender import Sender

Subject = Callable[[Feed, Stopwatch], int]

DONE_SECONDS: Final = 120.0
TUNED: Final = BatchSettings(max_messages=1_000, max_bytes=10_000_000, max_latency=0.01)


def replay(feed: Feed, watch: Stopwatch) -> int:
    """The product as users run it. Its time is from its report, reading to last checkpoint; its CPU includes the start
    of Python."""
    with tempfile.TemporaryDirectory() as folder, watch:
        result = report_of(feed.replay, Path(folder), DONE_SECONDS)
    watch.seconds = result["seconds"]
    return int(result["published"])


def sender(feed: Feed, watch: Stopwatch) -> int:
    """The replay's publishing stage alone, from chunks that are ready."""
    with publisher_channel() as channel, closing(Publisher(channel, TOPIC)) as publisher:
        publisher.check_topic(lambda: True)
        stage = Sender(publisher, Clock(), stream=STREAM_NAME, epoch=FIRST_EPOCH, speed=None, start=None, timeline=None)
        with watch:
            for chunk in feed.chunks:
                at = 0
                while at < len(chunk) and publisher.error is None:
                    at = stage.send(chunk, at)
            publisher.settle(DONE_SECONDS)
        if publisher.error:
            raise publisher.error
        return publisher.acknowledged.rows


def client(feed: Feed, watch: Stopwatch) -> int:
    """`PublisherClient.publish` with its defaults."""
    return _publish_with(PublisherClient(), feed, watch)


def client_tuned(feed: Feed, watch: Stopwatch) -> int:
    """`PublisherClient.publish` with batches as large as ours."""
    return _publish_with(PublisherClient(TUNED), feed, watch)


def ceiling(feed: Feed, watch: Stopwatch) -> int:
    """Finished requests over a bare channel, as many in flight as ours: the upper limit for any Python."""
    room = threading.Semaphore(WINDOW)

    def finished(_future: Any) -> None:
        room.release()

    with publisher_channel() as channel:
        grpc.channel_ready_future(channel).result(timeout=DONE_SECONDS)
        publish = channel.unary_unary("/google.pubsub.v1.Publisher/Publish")
        answers = []
        with watch:
            for request in feed.requests:
                room.acquire()
                answer = publish.future(request, timeout=DONE_SECONDS)
                answer.add_done_callback(finished)
                answers.append(answer)
            responses = [answer.result() for answer in answers]
    return sum(len(PublishResponse.FromString(response).message_ids) for response in responses)


def _publish_with(publisher: Any, feed: Feed, watch: Stopwatch) -> int:
    with publisher:
        publisher.get_topic(topic=TOPIC)  # connects
        with watch:
            futures = [publisher.publish(TOPIC, each.data, **each.attributes) for each in feed.messages]
            ids = [future.result(timeout=DONE_SECONDS) for future in futures]
        publisher.stop()
    return len(ids)


CLIENT: Final = "client-tuned"
"""The best settings of Google's client."""
CEILING: Final = "ceiling"

SUBJECTS: Final[dict[str, Subject]] = {
    "replay": replay,
    "sender": sender,
    "client": client,
    CLIENT: client_tuned,
    CEILING: ceiling,
}
