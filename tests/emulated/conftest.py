"""Fixtures of the emulated tests: each server is started once a module and stopped by its own process."""

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from google.cloud import bigquery, pubsub_v1

from rejeu.gcp.clients import bigquery_client
from tests.emulated.pubsub_feed import COMMANDS, PROJECT, Feed, PubSubServer
from tests.servers import BigQuery


@pytest.fixture(scope="module", params=COMMANDS)
def pubsub(request: pytest.FixtureRequest) -> Iterator[PubSubServer]:
    """A Pub/Sub server of each kind, named in PUBSUB_EMULATOR_HOST as for any client."""
    server = PubSubServer(request.param)
    server.start()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PUBSUB_EMULATOR_HOST", server.address)
        yield server
    server.kill()


@pytest.fixture(scope="module")
def client(bigquery_here: BigQuery) -> Iterator[bigquery.Client]:
    """A client of the BigQuery emulator, which the environment names too."""
    with closing(bigquery_client("rejeu-test")) as made:
        yield made


@pytest.fixture
def feed(pubsub: PubSubServer) -> Iterator[Feed]:
    """A topic and a subscription that no other test uses."""
    yield from _new_feed()


@pytest.fixture
def out(pubsub: PubSubServer) -> Iterator[Feed]:
    """One more of them, for a test that reads and writes."""
    yield from _new_feed()


def _new_feed() -> Iterator[Feed]:
    name = f"f{uuid.uuid4().hex}"
    with pubsub_v1.SubscriberClient() as subscriber:
        publisher = pubsub_v1.PublisherClient()
        feed = Feed(publisher, subscriber, f"{PROJECT}/topics/{name}", f"{PROJECT}/subscriptions/{name}")
        feed.create()
        yield feed
        publisher.stop()
