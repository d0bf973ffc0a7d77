"""What a stream lives on, made and taken away: the table that its rows come from, and its topic."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from google.api_core.exceptions import NotFound
from google.cloud import bigquery
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from rejeu.gcp.clients import bigquery_client
from rejeu.spec.model import StreamSpec
from rejeu.target import Target
from tests.chaos.stack.feeds import Feed
from tests.chaos.stack.tap import SEEN

SECONDS: Final = 30.0


def load_table(target: Target, feed: Feed, sources: Path) -> None:
    """Make the table of this feed, with all its rows."""
    client = bigquery_client(target.project)
    dataset, _, _ = feed.table.partition(".")
    client.create_dataset(dataset, exists_ok=True, timeout=SECONDS)
    columns = [bigquery.SchemaField("at", "TIMESTAMP"), bigquery.SchemaField("number", "INTEGER")]
    client.create_table(bigquery.Table(target.table(feed.table), columns), timeout=SECONDS)
    config = bigquery.LoadJobConfig(source_format=bigquery.SourceFormat.PARQUET)
    with feed.file(sources).open("rb") as rows:
        client.load_table_from_file(rows, target.table(feed.table), job_config=config).result(timeout=SECONDS)


def delete_table(target: Target, table: str) -> None:
    """Delete it."""
    bigquery_client(target.project).delete_table(target.table(table), timeout=SECONDS)


def delete_topic_and_make_it_again(target: Target, spec: StreamSpec) -> None:
    """Delete the stream's topic and make one of the same name: every subscription is cut off.

    The chaos's own is deleted, so that the tap makes itself a new one.
    """
    topic = target.topic(spec.live.topic)
    with PublisherClient() as publisher, SubscriberClient() as subscriber:
        publisher.delete_topic(topic=topic, timeout=SECONDS)
        publisher.create_topic(name=topic, timeout=SECONDS)
        with suppress(NotFound):
            subscriber.delete_subscription(
                subscription=f"{target.subscription(spec.live.topic)}{SEEN}", timeout=SECONDS
            )
