"""The streaming job of windows: whatever comes twice, out of order or before a kill, the view has what SQL counts."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from google.cloud import bigquery
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from rejeu.bigquery import sql
from rejeu.gcp.clients import bigquery_client
from rejeu.jobs.request import StreamJobRequest
from rejeu.spec.columns import DEAD_LETTER_COLUMNS, ROW_ID_COLUMN
from rejeu.spec.pipelines import PIPELINES
from rejeu.timeline import format_instant, from_us
from tests.beam_jobs.builders import wait_for

pytestmark = pytest.mark.emulated

PROJECT = "rejeu-test"
START_US = 1_533_279_600_000_000

COUNTS = """
    SELECT user_pseudo_id, event_timestamp // 60_000_000 * 60, count(*)
    FROM given GROUP BY ALL ORDER BY ALL"""
"""Events per user and minute as SQL has them."""

ISLANDS = """
    SELECT sensor, epoch_us(min(happened)), epoch_us(max(happened)) + 10_000_000, count(*), avg("Temp")
    FROM (
      SELECT *, sum(begins) OVER (PARTITION BY sensor ORDER BY happened) AS island FROM (
        SELECT *, (happened - lag(happened, 1, happened) OVER past >= INTERVAL 10 SECONDS)::INT AS begins
        FROM (SELECT *, "Timestamp"::TIMESTAMPTZ AS happened FROM given)
        WINDOW past AS (PARTITION BY sensor ORDER BY happened)
      )
    )
    GROUP BY sensor, island ORDER BY ALL"""
"""Sessions as SQL has them: islands between pauses of ten seconds."""


class Job:
    """A job of one pipeline, which may be killed and started again, and what it reads and writes."""

    def __init__(self, environment: dict[str, str], home: Path, pipeline: str, **changes: Any) -> None:
        self._environment, self._log = environment | {"REJEU_HOME": str(home)}, home / "job.log"
        name = f"{pipeline}_{uuid.uuid4().hex}"
        self._topic, subscription = f"projects/{PROJECT}/topics/{name}", f"projects/{PROJECT}/subscriptions/{name}"
        self._client, self._publisher, self._pipeline = bigquery_client(PROJECT), PublisherClient(), PIPELINES[pipeline]
        assert self._pipeline.columns is not None
        assert self._pipeline.windows is not None
        self._names = [column.name for column in self._pipeline.columns]
        self._publisher.create_topic(name=self._topic)
        SubscriberClient().create_subscription(name=subscription, topic=self._topic)
        self._client.create_dataset(name)
        for table, columns in (("rows", (*self._pipeline.columns, ROW_ID_COLUMN)), ("dead", DEAD_LETTER_COLUMNS)):
            schema = [bigquery.SchemaField.from_api_repr(column.to_api()) for column in columns]
            self._client.create_table(bigquery.Table(f"{PROJECT}.{name}.{table}", schema=schema))
        self.table = f"{PROJECT}.{name}.rows"
        self._request = StreamJobRequest.of(
            stream=pipeline,
            pipeline=pipeline,
            subscription=subscription,
            table=self.table,
            dead_letters=f"{PROJECT}.{name}.dead",
            event_time=self._pipeline.windows.start,
            **changes,
        )
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it says that it runs."""
        command = [sys.executable, "-m", "beam_jobs.stream", *self._request.to_argv(), "--", "--runner=DirectRunner"]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None
        assert "is running" in self._process.stdout.readline(), self._log.read_text()

    def kill(self) -> None:
        """SIGKILL: it has no time to do anything more."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def publish(self, messages: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Publish bodies under their row ids, and wait until Pub/Sub has them."""
        futures = [
            self._publisher.publish(self._topic, json.dumps(body).encode(), row_id=row_id) for row_id, body in messages
        ]
        for future in futures:
            future.result()

    def count(self) -> int:
        """How many rows of panes there are."""
        [[count]] = self._client.query(f"SELECT COUNT(*) FROM `{self.table}`").result()
        return int(count)

    def final(self, columns: str) -> list[tuple[Any, ...]]:
        """What the live view has, in order."""
        assert self._pipeline.windows is not None
        view = sql.final_rows(self.table, None, self._pipeline.windows, self._names)
        return sorted(tuple(row.values()) for row in self._client.query(f"SELECT {columns} FROM ({view})").result())


@pytest.fixture
def job_of(emulators: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Makes jobs, and leaves none running."""
    jobs: list[Job] = []

    def make(pipeline: str, **changes: Any) -> Job:
        jobs.append(Job(emulators, tmp_path, pipeline, **changes))
        return jobs[-1]

    yield make
    for job in jobs:
        job.kill()


def disorder(messages: list[tuple[str, Any]], dice: random.Random) -> list[tuple[str, Any]]:
    """A tenth of them twice, and all of them up to some hundreds of places away from where they belong."""
    twice = messages + dice.sample(messages, len(messages) // 10)
    return sorted(twice, key=lambda message: int(message[0].split("/")[1]) + dice.randrange(300_000_000))


def ask_sql(query: str, rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What DuckDB makes of these rows, as the table `given`."""
    connection = duckdb.connect()
    connection.register("given", pa.Table.from_pylist(rows))
    return connection.execute(query).fetchall()


def test_a_kill_in_the_midst_of_duplicates_out_of_order_changes_no_count(job_of: Callable[..., Job]) -> None:
    dice, job = random.Random(5), job_of("clicks")
    clicks = [
        {"user_pseudo_id": f"u{dice.randrange(20)}", "event_timestamp": START_US + dice.randrange(1_800_000_000)}
        for _ in range(3_000)
    ]
    messages = disorder([(f"clicks/{each['event_timestamp']}/{n}/0", each) for n, each in enumerate(clicks)], dice)
    job.start()
    job.publish(messages[:2_000])
    wait_for(lambda: job.count() > 0, "the job is in the midst of its work")
    job.kill()
    job.publish(messages[1_500:])
    job.start()
    found = "user_pseudo_id, UNIX_SECONDS(window_start), event_count"
    wait_for(lambda: job.final(found) == ask_sql(COUNTS, clicks), "the view has what SQL counts")


def test_sessions_are_the_islands_of_sql(job_of: Callable[..., Job]) -> None:
    dice, job = random.Random(7), job_of("sensor_means", session_seconds=10.0)
    times = {(f"s{dice.randrange(3)}", START_US + dice.randrange(900) * 2_000_000) for _ in range(600)}
    readings = [
        {"sensor": sensor, "Timestamp": format_instant(from_us(at)), "Temp": dice.choice([None, 0.5, 20.25])}
        for sensor, at in sorted(times)
    ]
    ids = [f"iot/{at}/{sensor}/0" for sensor, at in sorted(times)]
    job.start()
    job.publish(disorder(list(zip(ids, readings, strict=True)), dice))
    found = "sensor, UNIX_MICROS(Timestamp), UNIX_MICROS(window_end), readings, Temp"
    wait_for(lambda: job.final(found) == ask_sql(ISLANDS, readings), "the view has the islands")
