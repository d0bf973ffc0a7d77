"""A streaming job to be measured, its servers, and a table and a subscription for it alone."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import psutil
from google.cloud import bigquery
from google.cloud.pubsub_v1 import SubscriberClient

from benchmarks import cloud
from benchmarks.feed import STREAM_NAME, TOPIC
from benchmarks.processes import serving
from benchmarks.servers import BUILT_IN, PROJECT, bigquery_emulator, running
from rejeu.jobs.request import StreamJobRequest
from rejeu.local.processes.ports import HOST
from rejeu.local.servers.metadata import MetadataServer
from rejeu.spec.columns import DEAD_LETTER_COLUMNS, ROW_ID_COLUMN, Column
from rejeu.spec.pipelines import PIPELINES

DATASET: Final = "bench"
PLAIN: Final = (Column("happened", "TIMESTAMP"), Column("n", "INT64"))
"""The columns of the table that `passthrough` gets."""
BEAMS: Final = "Beam's own"

_numbers = count(1)


@dataclass(frozen=True)
class JobFeed:
    """A subscription that is filled, the table for its rows, and a client to query it."""

    client: bigquery.Client
    pipeline: str
    subscription: str
    table: str

    def ask(self, query: str) -> list[Any]:
        """The rows; `{table}` stands for the table's name."""
        return [tuple(row) for row in self.client.query_and_wait(query.format(table=f"`{self.table}`"))]

    @contextmanager
    def job(self) -> Iterator[psutil.Process]:
        """The job that reads the subscription and writes the table, while the block runs: ours, or Beam's own."""
        with (
            tempfile.TemporaryDirectory(prefix="rejeu-bench-") as home,
            serving(self._command(), REJEU_HOME=home) as process,
        ):
            yield process

    def _command(self) -> list[str]:
        if self.pipeline == BEAMS:
            module, flags = "benchmarks.beams_own", [f"--subscription={self.subscription}", f"--table={self.table}"]
            return [sys.executable, "-m", module, *flags]
        request = StreamJobRequest.of(
            stream=STREAM_NAME,
            pipeline=self.pipeline,
            subscription=self.subscription,
            table=self.table,
            dead_letters=f"{PROJECT}.{DATASET}.dead_letters",
            event_time=columns_of(self.pipeline)[0].name,
        )
        return [sys.executable, "-m", request.module, *request.to_argv(), "--", "--runner=DirectRunner"]


@contextmanager
def streaming_servers() -> Iterator[bigquery.Client]:
    """Pub/Sub, BigQuery and credentials while the block runs, for every client of this process and its children."""
    with MetadataServer(0, PROJECT) as metadata, running(BUILT_IN), bigquery_emulator() as client:
        threading.Thread(target=metadata.serve_forever, daemon=True).start()
        os.environ.update(dict.fromkeys(cloud.METADATA, f"{HOST}:{metadata.server_port}"))
        client.create_dataset(DATASET)
        _create(client, f"{PROJECT}.{DATASET}.dead_letters", DEAD_LETTER_COLUMNS)
        yield client
        metadata.shutdown()


@contextmanager
def feed_of(client: bigquery.Client, pipeline: str) -> Iterator[JobFeed]:
    """A new table and a new subscription, which are deleted afterwards."""
    number = next(_numbers)
    feed = JobFeed(
        client, pipeline, f"projects/{PROJECT}/subscriptions/bench-{number}", f"{PROJECT}.{DATASET}.t{number}"
    )
    _create(client, feed.table, (*columns_of(pipeline), ROW_ID_COLUMN))
    with SubscriberClient() as subscriber:
        subscriber.create_subscription(name=feed.subscription, topic=TOPIC)
        yield feed
        subscriber.delete_subscription(subscription=feed.subscription)
    client.delete_table(feed.table)


def columns_of(pipeline: str) -> tuple[Column, ...]:
    """The table's columns, without the row id."""
    return (PIPELINES[pipeline].columns if pipeline in PIPELINES else None) or PLAIN


def _create(client: bigquery.Client, table: str, columns: Sequence[Column]) -> None:
    schema = [bigquery.SchemaField.from_api_repr(column.to_api()) for column in columns]
    client.create_table(bigquery.Table(table, schema=schema))
