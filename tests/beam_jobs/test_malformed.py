"""Twenty thousand bad messages among good ones: every good row lands once, every bad one is a dead letter."""

from __future__ import annotations

import base64
import json
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any, NamedTuple

import pytest
from google.cloud import bigquery
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.cloud.pubsub_v1.types import BatchSettings

from rejeu.gcp.clients import bigquery_client
from rejeu.jobs.request import StreamJobRequest
from rejeu.spec.columns import DEAD_LETTER_COLUMNS, ROW_ID_COLUMN, Column
from rejeu.spec.pipelines import PIPELINES
from tests.beam_jobs.builders import STREAM, StartJob, make_request, wait_for

PROJECT, DATASET = "rejeu-test", "malformed"
TOPIC = f"projects/{PROJECT}/topics/malformed"
GOOD, BAD, LARGE, TWICE = 4_000, 20_000, 3, 3_000
BATCHES = BatchSettings(max_messages=1_000, max_bytes=5_000_000, max_latency=0.05)
LARGE_CHARS = 9_000_000
SECONDS = 300

REQUEST = StreamJobRequest(
    stream=STREAM,
    pipeline="rates",
    subscription=f"projects/{PROJECT}/subscriptions/malformed",
    table=f"{PROJECT}.{DATASET}.rates",
    dead_letters=f"{PROJECT}.{DATASET}.dead_letters",
    event_time="timestamp",
)


class Kind(NamedTuple):
    """One way to be wrong: the body of the message with this number, and words of the reason for its refusal."""

    body: Callable[[int], bytes]
    reason: str


class Sent(NamedTuple):
    """A message as it is published."""

    body: bytes
    attributes: dict[str, str]


def body(number: int, **changes: Any) -> bytes:
    return json.dumps(make_request(number, ("BTC",), (number,), 1, **changes)).encode()


def decoded(calldata: str, result: str) -> Callable[[int], bytes]:
    return lambda number: body(number, decoded_result={"calldata": calldata, "result": result})


DEEP = b"[" * 2_000
ASKED = '{"symbols": ["BTC"], "multiplier": 1}'
KINDS = {
    "empty": Kind(lambda _: b"", "truncated"),
    "truncated": Kind(lambda number: body(number)[:-40], "truncated"),
    "no_json": Kind(lambda number: b"row %d" % number, "malformed"),
    "no_utf8": Kind(lambda number: b"\xff\xfe\x00%d" % number, "malformed"),
    "nul": Kind(lambda number: b'{"request": \x00%d}' % number, "malformed"),
    "nan": Kind(lambda number: b'{"request": {"oracle_script_id": NaN}, "n": %d}' % number, "malformed"),
    "null": Kind(lambda _: b"null", "got `null`"),
    "array": Kind(lambda number: b"[%d]" % number, "got `array`"),
    "deep": Kind(lambda _: b'{"a": ' + DEEP + b"}", "recursion"),
    "surrogate": Kind(lambda number: body(number).replace(b"BTC", rb"\\ud800"), "surrogate"),
    "no_request": Kind(lambda number: b'{"oracle_request_id": %d}' % number, "missing required field `request`"),
    "null_field": Kind(lambda number: body(number, decoded_result=None), "got `null` - at `$.decoded_result`"),
    "wrong_type": Kind(lambda number: body(number, oracle_request_id=[number]), "got `array`"),
    "huge_number": Kind(lambda _: body(1).replace(b'"1"', b'"%s"' % (b"9" * 5_000)), "out of range"),
    "no_time": Kind(lambda number: body(number, block_timestamp_truncated="soon" * 500), "is not a time"),
    "zero": Kind(decoded('{"symbols": ["BTC"], "multiplier": 0}', '{"rates": [1]}'), "Expected `int` >= 1"),
    "nested": Kind(decoded(ASKED, '{"rates": [1'), "decoded_result.result: Input data was truncated"),
    "nested_deep": Kind(decoded(ASKED, '{"a": ' + DEEP.decode()), "recursion"),
    "infinite": Kind(decoded(ASKED, '{"rates": [1e999]}'), "out of range"),
    "not_a_number": Kind(decoded(ASKED, '{"rates": ["nan"]}'), "rate is nan"),
    "text": Kind(decoded(ASKED, '{"rates": ["high"]}'), "Expected `float`, got `str`"),
}
NO_ATTRIBUTES = "no_json"
"""Of these, every second one has no row id: the message's own stands in."""


def good_ones() -> list[Sent]:
    return [Sent(body(number), {"row_id": f"{STREAM}/{number}/good/0"}) for number in range(GOOD)]


def bad_ones() -> list[Sent]:
    made = []
    for number, (name, kind) in enumerate(islice(cycle(KINDS.items()), BAD - LARGE)):
        without = name == NO_ATTRIBUTES and number % 2
        made.append(Sent(kind.body(number), {} if without else {"row_id": f"{STREAM}/{number}/{name}/0"}))
    return made


def large_ones() -> list[Sent]:
    """One as text, one as bytes that are no text, one as text whose JSON is six times as long."""
    bodies = (b"x" * LARGE_CHARS, b"\xff" * LARGE_CHARS, b"\x01" * LARGE_CHARS)
    return [Sent(body, {"row_id": f"{STREAM}/{number}/large/0"}) for number, body in enumerate(bodies)]


@pytest.fixture
def client(emulators: dict[str, str]) -> Iterator[bigquery.Client]:
    """What reads the job's tables, which are empty, as are its topic and subscription."""
    client, publisher, subscriber = bigquery_client(PROJECT), PublisherClient(), SubscriberClient()
    client.create_dataset(DATASET)
    rates: tuple[Column, ...] = PIPELINES["rates"].columns or ()
    for name, columns in ((REQUEST.table, (*rates, ROW_ID_COLUMN)), (REQUEST.dead_letters, DEAD_LETTER_COLUMNS)):
        schema = [bigquery.SchemaField.from_api_repr(column.to_api()) for column in columns]
        client.create_table(bigquery.Table(name, schema=schema))
    publisher.create_topic(name=TOPIC)
    subscriber.create_subscription(name=REQUEST.subscription, topic=TOPIC, ack_deadline_seconds=60)
    yield client
    subscriber.delete_subscription(subscription=REQUEST.subscription)
    publisher.delete_topic(topic=TOPIC)
    client.delete_dataset(DATASET, delete_contents=True)


@pytest.fixture
def job(client: bigquery.Client, start_job: StartJob) -> subprocess.Popen[str]:
    """The streaming job as a process that runs."""
    return start_job(REQUEST)


def publish(messages: list[Sent]) -> None:
    publisher = PublisherClient(BATCHES)
    for future in [publisher.publish(TOPIC, each.body, **each.attributes) for each in messages]:
        future.result()


def answer(client: bigquery.Client, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in client.query(query).result()]


@pytest.mark.emulated
@pytest.mark.timeout(2 * SECONDS)
def test_every_good_row_lands_once_and_every_bad_message_is_one_dead_letter_with_its_reason(
    client: bigquery.Client, job: subprocess.Popen[str]
) -> None:
    chance = random.Random(5)
    good, bad, large = good_ones(), bad_ones(), large_ones()
    again = [each for each in chance.sample(good + bad, TWICE) if each.attributes]
    mixed = good + bad + again
    chance.shuffle(mixed)
    publish([*mixed, *large])

    wait_for(lambda: client.get_table(REQUEST.dead_letters).num_rows > BAD, "bad messages are dead letters", SECONDS)
    wait_for(
        lambda: all(whole_of(client, each) == as_text(each.body) for each in large),
        "the large ones are, whole",
        SECONDS,
    )
    job.send_signal(signal.SIGTERM)
    said, _ = job.communicate(timeout=30)
    assert job.returncode == 0
    assert f"duplicate {len(again)}, filtered 0" in said
    rows = (
        f"SELECT COUNT(*), COUNT(DISTINCT row_id), SUM(rate), COUNTIF(row_id LIKE '%/good/0#0') FROM `{REQUEST.table}`"
    )
    assert answer(client, rows) == [(GOOD, GOOD, sum(range(GOOD)), GOOD)]
    letters = f"""
        SELECT COALESCE(REGEXP_EXTRACT(row_id, r'/([a-z_0-9]+)/0'), '{NO_ATTRIBUTES}') AS kind,
          COUNT(*), COUNT(DISTINCT row_id), MIN(reason), MAX(reason), MAX(LENGTH(reason)) < 1100
        FROM `{REQUEST.dead_letters}` WHERE row_id NOT LIKE '%/large/0' GROUP BY kind"""
    found = {kind: told for kind, *told in answer(client, letters)}
    assert found.keys() == KINDS.keys()
    for number, (name, kind) in enumerate(KINDS.items()):
        sent = len(range(number, BAD - LARGE, len(KINDS)))
        count, ids, first, last, short = found[name]
        assert (count, ids, short) == (sent, sent, True), name
        assert kind.reason in first, name
        assert kind.reason in last, name


def whole_of(client: bigquery.Client, sent: Sent) -> str:
    """The payload, put together from its dead letters."""
    query = f"SELECT payload FROM `{REQUEST.dead_letters}` WHERE row_id = '{sent.attributes['row_id']}' ORDER BY reason"
    return "".join(part for (part,) in answer(client, query))


def as_text(body: bytes) -> str:
    """The payload of a message with this body."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(body).decode()
