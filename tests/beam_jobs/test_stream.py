"""The streaming job: every good row lands once, every bad one is a dead letter, and it stops when it is told to."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apache_beam import Create
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that
from google.cloud import bigquery
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from beam_jobs.stream import check_names, prepare, run
from beam_jobs.transforms.records import Row
from rejeu.errors import RequestError
from rejeu.gcp.clients import bigquery_client
from rejeu.jobs.request import StreamJobRequest
from rejeu.spec.columns import DEAD_LETTER_COLUMNS, ROW_ID_COLUMN, Column
from rejeu.spec.pipelines import PIPELINES
from tests.beam_jobs.builders import STREAM, StartJob, make_request, pipeline_here, wait_for

PROJECT = "rejeu-test"
COLUMNS = (*(PIPELINES["rates"].columns or ()), ROW_ID_COLUMN)
DRAIN_SECONDS = 15


def request(**changes: str) -> StreamJobRequest:
    fields = {
        "stream": STREAM,
        "pipeline": "rates",
        "subscription": f"projects/{PROJECT}/subscriptions/rates",
        "table": f"{PROJECT}.live.rates",
        "dead_letters": f"{PROJECT}.live.dead_letters",
        "event_time": "timestamp",
    }
    return StreamJobRequest.of(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"pipeline": "rtes"}, "--pipeline is 'rtes'"),
        ({"subscription": "rates"}, "--subscription is 'rates': write projects/P/subscriptions/S"),
        ({"table": "live.rates"}, "--table is 'live.rates': write project.dataset.table"),
        ({"dead_letters": "dead"}, "--dead-letters is 'dead'"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_submitted(changes: dict[str, str], complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        run(request(**changes).to_argv())


def test_a_runner_that_cannot_read_pubsub_is_refused() -> None:
    with pytest.raises(RequestError, match="only DirectRunner and DataflowRunner"):
        check_names(request(), PipelineOptions(["--runner=PrismRunner"]))


def test_rows_carry_their_row_id_and_what_the_table_refuses_dies() -> None:
    columns = tuple(Column("rate", "STRING") if column.name == "rate" else column for column in COLUMNS)
    body = json.dumps(make_request()).encode()
    messages = [
        PubsubMessage(body, {"row_id": "s/1/k/0"}, message_id="1"),
        PubsubMessage(body, {}, message_id="2"),
        PubsubMessage(b"{", {"row_id": "s/3/k/0"}, message_id="3"),
    ]
    with pipeline_here() as pipeline:
        rows, _ = prepare(pipeline | Create(messages), request(), COLUMNS)
        assert_that(rows, _check_row_ids, "rows")
    with pipeline_here() as pipeline:
        _, letters = prepare(pipeline | Create(messages), request(), columns)
        assert_that(letters, _check_letters, "letters")


def _check_row_ids(rows: list[Row]) -> None:
    assert sorted(row.values["row_id"] for row in rows) == ["2#0", "2#1", "s/1/k/0#0", "s/1/k/0#1"]


def _check_letters(letters: list[Row]) -> None:
    found = sorted((letter.values["row_id"], letter.values["step"]) for letter in letters)
    assert found[-1] == ("s/3/k/0", "decode")
    assert {step for _, step in found[:-1]} == {"validate"}
    assert len(found) == 5


@pytest.fixture
def tables(emulators: dict[str, str]) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """Empty tables, a topic and a subscription; yields what reads a table."""
    client = bigquery_client(PROJECT)
    client.create_dataset("live")
    plain = (Column("at", "TIMESTAMP", "REQUIRED"), Column("tags", "STRING", "REPEATED"), ROW_ID_COLUMN)
    for name, columns in (("rates", COLUMNS), ("plain", plain), ("dead_letters", DEAD_LETTER_COLUMNS)):
        schema = [bigquery.SchemaField.from_api_repr(column.to_api()) for column in columns]
        client.create_table(bigquery.Table(f"{PROJECT}.live.{name}", schema=schema))
    publisher, subscriber = PublisherClient(), SubscriberClient()
    topic, subscription = f"projects/{PROJECT}/topics/rates", request().subscription
    publisher.create_topic(name=topic)
    subscriber.create_subscription(name=subscription, topic=topic)
    yield lambda table: [dict(row) for row in client.query(f"SELECT * FROM live.{table}").result()]
    subscriber.delete_subscription(subscription=subscription)
    publisher.delete_topic(topic=topic)
    client.delete_dataset("live", delete_contents=True)


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(start_job: StartJob) -> Start:
    """Starts the job as a process."""
    return lambda **changes: start_job(request(**changes))


def publish(bodies: dict[str, bytes]) -> None:
    """Publish these bodies under their row ids, and wait until Pub/Sub has them."""
    publisher = PublisherClient()
    topic = f"projects/{PROJECT}/topics/rates"
    for future in [publisher.publish(topic, body, row_id=row_id) for row_id, body in bodies.items()]:
        future.result()


def oracle_requests(first: int, count: int) -> dict[str, bytes]:
    numbers = range(first, first + count)
    return {f"{STREAM}/{number}/{number}/0": json.dumps(make_request(number)).encode() for number in numbers}


@pytest.mark.emulated
def test_good_rows_land_once_and_bad_ones_are_dead_letters_and_a_signal_drains(
    start: Start, tables: Callable[[str], list[dict[str, Any]]]
) -> None:
    job = start()
    good = oracle_requests(1, 250)
    bad = {"s/x/x/0": b"not json", "s/y/y/0": json.dumps(make_request(multiplier=0)).encode()}
    filtered = {"s/z/z/0": json.dumps(make_request(request={"oracle_script_id": "1"})).encode()}
    publish(good | bad | filtered)
    publish(good)
    wait_for(lambda: len(tables("rates")) == 500, "500 rows are in the table")
    wait_for(lambda: len(tables("dead_letters")) == 2, "2 dead letters are in their table")
    publish(oracle_requests(1_000, 1_000))
    job.send_signal(signal.SIGTERM)
    said, _ = job.communicate(timeout=DRAIN_SECONDS)
    rows = tables("rates")
    assert job.returncode == 0
    assert len({row["row_id"] for row in rows}) == len(rows)
    counts = re.search(r"dead 2, duplicate (\d+), filtered 1\b", said)
    # Pub/Sub delivers again what a busy machine acknowledges late.
    assert counts is not None, said
    assert int(counts[1]) >= 250
    assert {(row["row_id"], row["step"]) for row in tables("dead_letters")} == {
        ("s/x/x/0", "decode"),
        ("s/y/y/0", "decode"),
    }
    start()
    wait_for(lambda: len(tables("rates")) == 2_500, "the next job writes what this one left")
    assert len({row["row_id"] for row in tables("rates")}) == 2_500


@pytest.mark.emulated
def test_a_kill_loses_nothing(start: Start, tables: Callable[[str], list[dict[str, Any]]]) -> None:
    job = start()
    publish(oracle_requests(1, 2_000))
    wait_for(lambda: len(tables("rates")) > 0, "the job is in the midst of its work")
    job.kill()
    start()
    wait_for(lambda: len({row["row_id"] for row in tables("rates")}) == 4_000, "every row is in the table")


@pytest.mark.emulated
def test_passthrough_takes_its_columns_from_the_table(
    start: Start, tables: Callable[[str], list[dict[str, Any]]]
) -> None:
    start(pipeline="passthrough", table=f"{PROJECT}.live.plain", event_time="at")
    publish(
        {
            "s/1/a/0": b'{"at": "2021-05-01T00:00:00Z", "tags": ["a", "b"]}',
            "s/1/b/0": b'{"tags": []}',
            "s/1/c/0": b'{"at": "2021-05-01T00:00:00Z", "colour": "red"}',
        }
    )
    wait_for(lambda: len(tables("dead_letters")) == 2, "two rows are refused")
    wait_for(lambda: len(tables("plain")) == 1, "one row is written")
    reasons = {row["row_id"]: row["reason"] for row in tables("dead_letters")}
    assert reasons["s/1/b/0"] == "at is missing: the column is REQUIRED"
    assert reasons["s/1/c/0"].startswith("colour: there is no such column")
    assert tables("plain")[0]["tags"] == ["a", "b"]


@pytest.mark.emulated
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"table": f"{PROJECT}.live.none"}, "there is no such table"),
        ({"table": f"{PROJECT}.live.plain"}, "timestamp, request, symbol, rate, date_str is missing, which rates"),
        ({"event_time": "at"}, "--event-time is 'at'"),
        ({"subscription": f"projects/{PROJECT}/subscriptions/none"}, "there is no such subscription"),
    ],
)
def test_what_does_not_exist_ends_the_job_before_it_runs(
    changes: dict[str, str], complaint: str, tables: Callable[[str], list[dict[str, Any]]]
) -> None:
    with pytest.raises(RequestError, match=complaint):
        run(request(**changes).to_argv())
