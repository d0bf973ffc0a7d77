"""The clients that Rejeu is made of, run for real against the built-in Pub/Sub server and Google's emulator."""

import json
import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

import apache_beam as beam
import pytest
from airflow.providers.google.cloud.hooks.pubsub import PubSubHook
from apache_beam.options.pipeline_options import PipelineOptions
from google.api_core import exceptions
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.message import Message
from google.cloud.pubsub_v1.types import FlowControl

from tests.emulated.pubsub_feed import BUILT_IN, PROJECT_ID, WAIT_SECONDS, Feed, PubSubServer, bodies, built_in_only

pytestmark = pytest.mark.emulated


# Streams


@contextmanager
def streaming(feed: Feed, take: Callable[[Message], Any], **options: Any) -> Iterator[None]:
    """Have `take` called with each message, until the block ends."""
    stream = feed.subscriber.subscribe(feed.subscription, take, **options)
    try:
        yield
    finally:
        stream.cancel()
        stream.result(WAIT_SECONDS)


def test_a_stream_gets_all_that_many_publishers_send(feed: Feed) -> None:
    arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def take(message: Message) -> None:
        arrived.put(message.data)
        message.ack()

    def publish(worker: int) -> list[bytes]:
        sent = [b"%d-%d" % (worker, number) for number in range(500)]
        client = pubsub_v1.PublisherClient()
        for future in [client.publish(feed.topic, body) for body in sent]:
            future.result(WAIT_SECONDS)
        client.stop()
        return sent

    with streaming(feed, take), ThreadPoolExecutor(4) as pool:
        sent = [body for batch in pool.map(publish, range(4)) for body in batch]
        received = [arrived.get(timeout=WAIT_SECONDS) for _ in sent]
    assert sorted(received) == sorted(sent)


def test_a_stream_gets_a_refused_message_again(feed: Feed) -> None:
    feed.publish(b"x")
    turns = count(1)
    done = threading.Event()

    def take(message: Message) -> None:
        if next(turns) < 3:
            message.nack()
        else:
            message.ack_with_response().result()
            done.set()

    with streaming(feed, take):
        assert done.wait(WAIT_SECONDS)


@built_in_only
def test_flow_control_leaves_the_rest_for_other_streams(feed: Feed) -> None:
    feed.publish(*[b"%d" % number for number in range(20)])
    held: queue.SimpleQueue[Message] = queue.SimpleQueue()
    with streaming(feed, held.put, flow_control=FlowControl(max_messages=5)):
        first = [held.get(timeout=WAIT_SECONDS) for _ in range(5)]
        others = feed.pull(at_least=15)
    assert sorted([message.data for message in first] + bodies(others), key=int) == [b"%d" % n for n in range(20)]


def test_a_stream_ends_when_its_subscription_is_deleted(feed: Feed) -> None:
    arrived = threading.Event()
    stream = feed.subscriber.subscribe(feed.subscription, lambda _: arrived.set())
    feed.publish(b"x")
    assert arrived.wait(WAIT_SECONDS)
    feed.subscriber.delete_subscription(subscription=feed.subscription)
    with pytest.raises(exceptions.NotFound):
        stream.result(WAIT_SECONDS)


# Restarts


def test_clients_find_a_killed_server_again_and_it_is_empty(pubsub: PubSubServer, feed: Feed) -> None:
    feed.publish(b"lost")
    pubsub.kill()
    pubsub.start()
    with pytest.raises(exceptions.NotFound):
        feed.publish(b"nowhere")
    feed.create()
    feed.publish(b"found")
    assert bodies(feed.pull()) == [b"found"]


@built_in_only
def test_ids_of_before_a_kill_mean_nothing_after_it(pubsub: PubSubServer, feed: Feed) -> None:
    [old_id] = feed.publish(b"before")
    before = feed.pull()
    pubsub.kill()
    pubsub.start()
    feed.create()
    [new_id] = feed.publish(b"after")
    assert int(new_id) > int(old_id)
    after = feed.pull()
    feed.acknowledge(before)
    feed.set_deadline(after, 0)
    assert bodies(feed.pull()) == [b"after"]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_server_says_its_port_and_stops_at_once(stop: signal.Signals) -> None:
    with subprocess.Popen([*BUILT_IN, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        host, port = process.stdout.readline().split()[-1].split(":")
        assert host == "127.0.0.1"
        assert int(port) > 0
        process.send_signal(stop)
        assert process.wait(WAIT_SECONDS) == 0


def test_a_port_in_use_is_one_line_and_exit_code_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        run = subprocess.run(
            [*BUILT_IN, f"--port={port}"], capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
        )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}" in run.stderr


# Beam and Airflow


def test_beam_reads_from_a_subscription_and_writes_to_a_topic(feed: Feed, out: Feed) -> None:
    feed.publish(*[b"%d" % number for number in range(25)], attributes={"kind": "count"})
    pipeline = beam.Pipeline(options=PipelineOptions(runner="BundleBasedDirectRunner", streaming=True))
    messages = pipeline | beam.io.ReadFromPubSub(subscription=feed.subscription, with_attributes=True)
    messages | beam.io.WriteToPubSub(out.topic, with_attributes=True)
    result = pipeline.run()
    received = out.pull(at_least=25)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(result.cancel)
        feed.publish(b"25")  # ends the pull that it waits for, half a minute on Google's emulator
    assert sorted(bodies(received), key=int) == [b"%d" % number for number in range(25)]
    assert {message.message.attributes["kind"] for message in received} == {"count"}


def test_airflow_creates_publishes_and_pulls(pubsub: PubSubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": PROJECT_ID}}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(connection))
    hook = PubSubHook()
    for _ in range(2):  # the second time it is there
        hook.create_topic(project_id=PROJECT_ID, topic="airflow")
        hook.create_subscription(project_id=PROJECT_ID, topic="airflow", subscription="airflow")
    hook.publish(project_id=PROJECT_ID, topic="airflow", messages=[{"data": b"x"}])
    received = hook.pull(project_id=PROJECT_ID, subscription="airflow", max_messages=1)
    hook.acknowledge(project_id=PROJECT_ID, subscription="airflow", messages=received)
    assert bodies(received) == [b"x"]
