"""Entries and exits: whatever is redelivered, reordered or killed, as many are inside as came and did not go."""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
import pytest
from apache_beam import Create
from apache_beam.testing.util import assert_that
from google.cloud.bigtable.data import RowMutationEntry, SetCell
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from beam_jobs.pipelines.occupancy.transform import make_decoder, transform
from beam_jobs.transforms.bigtable import write
from beam_jobs.transforms.records import Message, Row
from rejeu.bigquery.ensure import ensure_tables
from rejeu.gcp.bigtable import SUM
from rejeu.gcp.clients import bigquery_client
from rejeu.jobs.request import PipelineRequest, StreamJobRequest
from rejeu.spec.model import StreamSpec
from rejeu.spec.pipelines import PIPELINES
from rejeu.target import Target
from rejeu.timeline import format_instant, from_us, parse_instant, to_us
from tests.beam_jobs.bigtables import PROJECT, STREAM, Bigtable
from tests.beam_jobs.builders import StartJob, pipeline_here, wait_for
from tests.fakes.bigtable_server import BigtableServer

Code = grpc.StatusCode
Event = dict[str, Any]
NOON = to_us(parse_instant("2021-05-01T12:00:00Z"))
MINUTE_US = 60_000_000


def server_of(bigtable: Bigtable) -> BigtableServer:
    assert bigtable.fake is not None
    return bigtable.fake


def an_event(site: str = "paris", service: str = "gym", event: int = 1, minute: float = 0, **changes: Any) -> Event:
    """An event so many minutes after noon."""
    at = format_instant(from_us(NOON + int(minute * MINUTE_US)))
    return {"eventTime": at, "site": site, "service": service, "device": "door-1", "event": event} | changes


def many(count: int, minutes: int) -> list[Event]:
    """Events at several sites, some of whose names are each other's beginnings, over so many minutes."""
    chance = random.Random(count)
    places = [(site, service) for site in ("a", "ab", "a#b") for service in ("gym", "gym#2", "100%")]
    return [
        an_event(*chance.choice(places), chance.choice([1, 1, -1]), chance.uniform(0, minutes)) for _ in range(count)
    ]


def messages_of(events: Iterable[Event], first: int = 0) -> list[Message]:
    return [
        Message(f"{STREAM}/{to_us(parse_instant(event['eventTime']))}/{number}/0", json.dumps(event).encode(), {})
        for number, event in enumerate(events, first)
    ]


def truth_of(events: Iterable[Event]) -> dict[tuple[str, ...], int]:
    """What must be found for each site, and for each service of one."""
    truth = Counter[tuple[str, ...]]()
    for event in events:
        truth[event["site"],] += event["event"]
        truth[event["site"], event["service"]] += event["event"]
    return dict(truth)


def serve(
    bigtable: Bigtable, messages: list[Message], check_letters: Callable[[list[Row]], None] | None = None
) -> None:
    """Run the pipeline; without a check no letter must be dead."""

    def none(letters: list[Row]) -> None:
        assert letters == []

    def all_rows(rows: list[Row]) -> None:
        assert len(rows) == len(messages)

    request = PipelineRequest(stream=STREAM, pipeline="occupancy", bigtable=bigtable.instance)
    with pipeline_here() as pipeline:
        rows, letters = pipeline | Create(messages, reshuffle=False) | transform(request)
        assert_that(rows, all_rows, "rows")
        assert_that(letters, check_letters or none, "letters")


def test_an_event_is_a_row_and_its_time_is_utc() -> None:
    body = json.dumps(an_event(eventTime="2021-05-01T14:00:00+02:00", event="-1")).encode()
    expected = an_event(event=-1)
    assert make_decoder()(body) == [expected]
    assert set(expected) == {column.name for column in PIPELINES["occupancy"].columns or ()}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"event": 2}, r"Invalid enum value 2 - at `\$.event`"),
        ({"event": None}, r"\$.event"),
        ({"site": ""}, r"length >= 1 - at `\$.site`"),
        ({"service": "x" * 201}, r"length <= 200 - at `\$.service`"),
        ({"eventTime": "2021-05-01T12:00:00"}, "eventTime: '2021-05-01T12:00:00' has no time zone"),
    ],
)
def test_what_is_wrong_is_refused_with_a_reason_that_names_the_field(changes: Event, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_decoder()(json.dumps(an_event(**changes)).encode())


@pytest.mark.emulated
def test_however_often_and_in_what_order_events_come_as_many_are_inside_as_there_are(bigtable: Bigtable) -> None:
    events = many(1_200, minutes=4 * 24 * 60)
    messages = messages_of(events)
    chance = random.Random(7)
    first = chance.sample(messages, 400)
    serve(bigtable, first + chance.sample(first, 200))
    serve(bigtable, chance.sample(messages, len(messages)))
    assert bigtable.occupancies() == truth_of(events)


@pytest.mark.emulated
def test_an_event_that_comes_days_late_is_counted(bigtable: Bigtable) -> None:
    serve(bigtable, messages_of([an_event(minute=10_000), an_event(minute=10_001)]))
    serve(bigtable, messages_of([an_event(minute=-10_000, event=-1)], first=2))
    serve(bigtable, messages_of([an_event(eventTime="1969-07-20T20:17:40Z")], first=3))
    assert bigtable.occupancies() == {("paris",): 2, ("paris", "gym"): 2}


@pytest.mark.emulated
def test_a_calculation_that_fails_keeps_the_others_and_the_event_and_the_next_event_heals_it(fake: Bigtable) -> None:
    server_of(fake).refused = lambda key: Code.INVALID_ARGUMENT if key == b"status#paris" else None
    events = [an_event(), an_event(), an_event(site="lyon")]

    def one_of_paris(letters: list[Row]) -> None:
        (letter,) = letters
        assert letter.values["step"] == "calculate"
        assert letter.values["reason"].startswith("status#paris: ")
        assert letter.row_id == f"{STREAM}/{NOON}/1/0"

    serve(fake, messages_of(events), one_of_paris)
    assert fake.occupancies() == {("paris", "gym"): 2, ("lyon",): 1, ("lyon", "gym"): 1}
    server_of(fake).refused = lambda key: None
    events.append(an_event(service="pool", minute=9_000))
    serve(fake, messages_of(events[-1:], first=3))
    assert fake.occupancies() == truth_of(events)


@pytest.mark.emulated
def test_a_stored_row_that_is_no_number_fails_its_own_sums_alone(bigtable: Bigtable) -> None:
    spoilt = "day#paris#gym#2021-04-30"
    write(bigtable.table, [RowMutationEntry(spoilt, [SetCell(SUM, "sum", "many", 1000)])])
    events = [an_event(), an_event(service="pool"), an_event(site="lyon")]

    def both_that_count_it(letters: list[Row]) -> None:
        reason = f"{spoilt} holds b'many', which is not a whole number: mend or delete that row"
        assert sorted(letter.values["reason"] for letter in letters) == [
            f"status#paris#gym: {reason}",
            f"status#paris: {reason}",
        ]

    serve(bigtable, messages_of(events), both_that_count_it)
    assert bigtable.occupancies() == {("paris", "pool"): 1, ("lyon",): 1, ("lyon", "gym"): 1}
    write(bigtable.table, [RowMutationEntry(spoilt, [SetCell(SUM, "sum", "5", 5000)])])
    serve(bigtable, messages_of(events[:1]))
    assert bigtable.occupancies()["paris",] == 7


@pytest.mark.emulated
def test_an_event_that_bigtable_refuses_dies_alone(fake: Bigtable) -> None:
    def the_long_one(letters: list[Row]) -> None:
        assert [(letter.values["step"], len(letter.row_id)) for letter in letters] == [("write", 5_000)]

    message = messages_of([an_event()])[0]
    serve(fake, [message._replace(row_id="x" * 5_000), message._replace(row_id="x" * 3_000)], the_long_one)
    assert fake.occupancies() == {("paris",): 1, ("paris", "gym"): 1}


@pytest.mark.emulated
@pytest.mark.parametrize("read", range(5))
def test_of_two_workers_at_once_the_one_that_saw_less_never_has_the_last_word(fake: Bigtable, read: int) -> None:
    events = [an_event(), an_event()]
    server, reads = server_of(fake), iter(range(5))

    def while_the_first_has_read_and_not_written(method: str) -> None:
        if method == "read_rows" and next(reads, None) == read:
            server.before_answer = lambda method: None
            serve(fake, messages_of(events[1:], first=1))

    server.before_answer = while_the_first_has_read_and_not_written
    serve(fake, messages_of(events[:1]))
    assert server.before_answer is not while_the_first_has_read_and_not_written
    assert fake.occupancies() == truth_of(events)


@pytest.mark.emulated
def test_a_bigtable_that_fails_now_and_then_loses_nothing(fake: Bigtable) -> None:
    chance = random.Random(3)
    server_of(fake).faults = iter(chance.choices([None, None, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, "lost"], k=24))
    events = many(500, minutes=60)
    serve(fake, messages_of(events))
    assert fake.occupancies() == truth_of(events)


SPEC = StreamSpec.model_validate(
    {
        "stream": STREAM,
        "description": "Who goes in and out.",
        "owner": "tests",
        "event_time": "eventTime",
        "live": {"topic": "access", "pipeline": "occupancy", "table": "access.events"},
        "watchdog": {"probe": "tap"},
    }
)
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/access"
TOPIC = f"projects/{PROJECT}/topics/access"


@pytest.fixture
def tables(emulators: dict[str, str]) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """The stream's tables and views, topic and subscription; yields what reads a table."""
    client = bigquery_client(PROJECT)
    ensure_tables(client, SPEC, Target(project=PROJECT), PIPELINES["occupancy"].columns or ())
    PublisherClient().create_topic(name=TOPIC)
    SubscriberClient().create_subscription(name=SUBSCRIPTION, topic=TOPIC, ack_deadline_seconds=10)
    yield lambda table: [dict(row) for row in client.query(f"SELECT * FROM access.{table}").result()]
    SubscriberClient().delete_subscription(subscription=SUBSCRIPTION)
    PublisherClient().delete_topic(topic=TOPIC)
    client.delete_dataset("access", delete_contents=True)


@pytest.fixture
def start(start_job: StartJob) -> Callable[[Bigtable], subprocess.Popen[str]]:
    """Starts the job as a process."""

    def start(bigtable: Bigtable) -> subprocess.Popen[str]:
        request = StreamJobRequest.of(
            stream=STREAM,
            pipeline="occupancy",
            bigtable=bigtable.instance,
            subscription=SUBSCRIPTION,
            table=f"{PROJECT}.access.events",
            dead_letters=f"{PROJECT}.access.events_dead_letters",
            event_time="eventTime",
        )
        return start_job(request, BIGTABLE_EMULATOR_HOST=bigtable.address)

    return start


def publish(messages: Iterable[Message]) -> None:
    """Publish them, and wait until Pub/Sub has them."""
    publisher = PublisherClient()
    for future in [publisher.publish(TOPIC, message.body, row_id=message.row_id) for message in messages]:
        future.result()


@pytest.mark.emulated
def test_a_killed_job_leaves_the_truth_to_the_next_one_in_bigtable_and_in_bigquery(
    start: Callable[[Bigtable], subprocess.Popen[str]],
    tables: Callable[[str], list[dict[str, Any]]],
    bigtable: Bigtable,
) -> None:
    events = many(1_200, minutes=12 * 60)
    messages = random.Random(11).sample(messages_of(events), len(events))
    job = start(bigtable)
    publish(messages[:800])
    wait_for(lambda: len(bigtable.occupancies()) > 0, "the job is in the midst of its work")
    job.kill()
    job.wait()
    publish(messages[400:])
    assert bigtable.occupancies() != truth_of(events)
    start(bigtable)
    wait_for(lambda: bigtable.occupancies() == truth_of(events), "as many are inside as there are")
    wait_for(lambda: len({row["row_id"] for row in tables("events")}) == len(events), "every event is in BigQuery")
    services = {(row["site"], row["service"]): row["currentOccupancy"] for row in tables("events_occupancy")}
    assert services == {names: count for names, count in truth_of(events).items() if len(names) == 2}
    last = {row["site"]: row["siteOccupancy"] for row in sorted(tables("events_occupancy_over_time"), key=_time)}
    assert last == {names[0]: count for names, count in truth_of(events).items() if len(names) == 1}
    assert tables("events_dead_letters") == []


def _time(row: dict[str, Any]) -> Any:
    return row["eventTime"]
