"""The publisher, against a broker that misbehaves: every batch is acknowledged in the end, or the error says why."""

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

import grpc
import pytest

from rejeu.errors import PublishError
from rejeu.replay.send import publisher as publisher_module
from rejeu.replay.send.publisher import WINDOW, Batch, Publisher, Request
from rejeu.timeline import Position
from tests.fakes.broker import UNAVAILABLE, FakeBroker, PublishRequest, after, refuse, too_few_ids
from tests.replay.rows import SECONDS, TOPIC

Code = grpc.StatusCode


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker() as started:
        yield started


@pytest.fixture
def publish_to(broker: FakeBroker) -> Iterator[Callable[..., Publisher]]:
    """Makes publishers for the broker."""
    with grpc.insecure_channel(broker.address) as channel:
        made: list[Publisher] = []

        def make(patience_seconds: float = SECONDS, **options: Callable[[], bool]) -> Publisher:
            made.append(Publisher(channel, TOPIC, patience_seconds=patience_seconds, **options))
            return made[-1]

        yield make
        for publisher in made:
            publisher.close()


@pytest.fixture
def publisher(publish_to: Callable[..., Publisher]) -> Publisher:
    return publish_to()


@pytest.fixture(autouse=True)
def no_thread_dies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    died: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    yield
    assert died == []


def batch(number: int, rows: int = 1) -> Batch:
    """Rows at the instant `number`, whose bodies are that number."""
    return Batch([request([b"%d" % number] * rows)], number, lambda: Position(number, rows), rows)


def keyed_batch(number: int, **keys: int) -> Batch:
    """So many rows of each key at the instant `number`; their bodies are key and number."""
    requests = [request([f"{key}{number}".encode()] * rows, key) for key, rows in keys.items()]
    return Batch(requests, number, lambda: Position(number, sum(keys.values())), sum(keys.values()))


def request(bodies: list[bytes], key: str = "") -> Request:
    said = PublishRequest(topic=TOPIC)
    for body in bodies:
        said.messages.add(data=body, ordering_key=key)
    return Request(said.SerializeToString(), len(bodies), key)


def always() -> bool:
    return True


# Acknowledged


def test_what_is_acknowledged_is_counted_and_is_the_cursor(broker: FakeBroker, publisher: Publisher) -> None:
    before = datetime.now(UTC)
    for number in (1, 2):
        publisher.send(batch(number, rows=3))
    assert publisher.settle(SECONDS)
    found = publisher.acknowledged
    assert (found.rows, found.cursor, publisher.error) == (6, Position(2, 3), None)
    assert found.first is not None
    assert found.last is not None
    assert before <= found.first <= found.last
    assert broker.bodies == [b"1"] * 3 + [b"2"] * 3


def test_the_cursor_waits_for_the_slowest_request_before_it(broker: FakeBroker, publisher: Publisher) -> None:
    slow = threading.Event()
    broker.on(b"2", after(slow))
    for number in (1, 2, 3, 4):
        publisher.send(batch(number))
    broker.wait_for(lambda: len(broker.got) == 3)
    assert not publisher.settle(0.05)
    assert (publisher.acknowledged.cursor, publisher.acknowledged.rows) == (Position(1, 1), 1)
    assert publisher.oldest_pending() == 2
    slow.set()
    assert publisher.settle(SECONDS)
    assert (publisher.acknowledged.cursor, publisher.acknowledged.rows) == (Position(4, 1), 4)
    assert publisher.oldest_pending() is None


def test_there_is_room_for_so_many_requests_beyond_the_cursor(broker: FakeBroker, publisher: Publisher) -> None:
    slow = threading.Event()
    broker.on(b"0", after(slow))
    for number in range(WINDOW):
        assert publisher.has_room(0)
        publisher.send(batch(number))
    broker.wait_for(lambda: len(broker.got) == WINDOW - 1)
    assert not publisher.has_room(0.05), "one that hangs must not let the others run away"
    slow.set()
    assert publisher.has_room(SECONDS)


def test_there_is_no_room_while_too_many_requests_of_one_batch_are_under_way(
    broker: FakeBroker, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "MAX_IN_FLIGHT", 3)
    slow = threading.Event()
    for number in range(3):
        broker.on(b"%d" % number, after(slow))
    publisher.send(Batch([request([b"%d" % number]) for number in range(3)], 0, lambda: Position(0, 3), 3))
    assert not publisher.has_room(0.05)
    slow.set()
    assert publisher.has_room(SECONDS)


def test_an_acknowledgement_that_takes_long_is_not_forgotten(broker: FakeBroker, publisher: Publisher) -> None:
    slow = threading.Event()
    broker.on(b"1", after(slow))
    publisher.send(batch(1))
    broker.wait_for(lambda: broker.attempts >= 1)
    gc.collect()  # gRPC cancels the call of a future that nobody holds
    slow.set()
    assert publisher.settle(SECONDS)
    assert (publisher.acknowledged.rows, broker.attempts) == (1, 1)


# Away


def test_a_broker_that_is_unavailable_is_asked_again(
    broker: FakeBroker, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    broker.on(b"1", UNAVAILABLE, refuse(Code.INTERNAL), refuse(Code.RESOURCE_EXHAUSTED))
    publisher.send(batch(1))
    assert publisher.settle(SECONDS)
    assert (publisher.acknowledged.rows, broker.attempts, publisher.error) == (1, 4, None)
    assert caplog.messages[0] == f"{TOPIC}: UNAVAILABLE; trying again for 20 s"
    assert caplog.messages[1].startswith(f"{TOPIC}: the topic answers again after 0.")
    assert len(caplog.messages) == 2, "an absence is told once, not once a request"


def test_a_broker_that_was_gone_gets_everything_when_it_is_back(broker: FakeBroker, publisher: Publisher) -> None:
    publisher.send(batch(0))
    assert publisher.settle(SECONDS)
    broker.stop()
    for number in range(1, WINDOW):
        publisher.send(batch(number))
    assert not publisher.settle(0.3)
    broker.start()
    assert publisher.settle(SECONDS)
    assert publisher.error is None
    assert broker.bodies == [b"%d" % number for number in range(WINDOW)]


def test_a_broker_that_stays_away_is_an_error_that_says_how_to_go_on(
    broker: FakeBroker, publish_to: Callable[..., Publisher]
) -> None:
    publisher = publish_to(patience_seconds=0.2)
    broker.on(b"2", *[UNAVAILABLE] * 100)
    publisher.send(batch(1))
    publisher.send(batch(2))
    assert publisher.settle(SECONDS)
    assert str(publisher.error) == (
        f"{TOPIC} takes no messages: UNAVAILABLE: gone; it was away for 0.2 s, and what was acknowledged is saved: "
        "start again with --from cursor once it is back"
    )
    assert publisher.acknowledged.cursor == Position(1, 1)


def test_a_broker_that_never_answers_is_given_up_just_as_soon(
    broker: FakeBroker, publish_to: Callable[..., Publisher]
) -> None:
    publisher, never = publish_to(patience_seconds=0.2), threading.Event()
    broker.on(b"1", *[after(never)] * 10)
    publisher.send(batch(1))
    assert publisher.settle(SECONDS)
    assert "takes no messages: DEADLINE_EXCEEDED: " in str(publisher.error)
    assert "; it was away for 0.2 s" in str(publisher.error)
    never.set()


# Refused


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            refuse(Code.NOT_FOUND, "gone"),
            "takes no messages: NOT_FOUND: gone; create it, or let the stream's live DAG do so",
        ),
        (
            refuse(Code.PERMISSION_DENIED, "gone"),
            "takes no messages: PERMISSION_DENIED: gone; grant this identity roles/pubsub.publisher",
        ),
        (
            refuse(Code.INVALID_ARGUMENT, "bad message"),
            "takes no messages: INVALID_ARGUMENT: bad message; mend that, then start again with --from cursor",
        ),
        (
            too_few_ids,
            "acknowledged 2 of 3 messages of a request: each must have its id; check which server answers for "
            "Pub/Sub, then start again with --from cursor",
        ),
    ],
    ids=["no topic", "no right", "bad request", "too few ids"],
)
def test_what_will_never_work_is_not_tried_again(
    broker: FakeBroker, publisher: Publisher, answer: Callable[..., object], said: str
) -> None:
    broker.on(b"1", answer)
    publisher.send(batch(1, rows=3))
    assert publisher.settle(SECONDS)
    assert (str(publisher.error), broker.attempts) == (f"{TOPIC} {said}", 1)
    assert (publisher.acknowledged.rows, publisher.acknowledged.cursor) == (0, None)


def test_rows_before_a_refused_one_still_count_and_rows_after_it_do_not(
    broker: FakeBroker, publisher: Publisher
) -> None:
    slow = threading.Event()
    broker.on(b"1", after(slow))
    broker.on(b"2", refuse(Code.INVALID_ARGUMENT))
    for number in (1, 2, 3):
        publisher.send(batch(number))
    broker.wait_for(lambda: broker.bodies == [b"3"])
    assert not publisher.settle(0.05)
    slow.set()
    assert publisher.settle(SECONDS)
    assert publisher.acknowledged.cursor == Position(1, 1)


def test_after_an_error_nothing_more_is_sent(broker: FakeBroker, publisher: Publisher) -> None:
    broker.on(b"1", refuse(Code.NOT_FOUND))
    publisher.send(batch(1))
    assert publisher.settle(SECONDS)
    publisher.send(batch(2))
    assert publisher.settle(SECONDS)
    assert broker.attempts == 1


# Ordering keys


def of_key(broker: FakeBroker, key: str) -> list[bytes]:
    """What arrived of a key, in that order."""
    return [message.data for message in broker.got if message.ordering_key == key]


def test_a_batch_is_acknowledged_once_all_its_requests_are(broker: FakeBroker, publisher: Publisher) -> None:
    slow = threading.Event()
    broker.on(b"b1", after(slow))
    publisher.send(keyed_batch(1, a=2, b=1, c=3))
    broker.wait_for(lambda: len(broker.got) == 5)
    assert not publisher.settle(0.05)
    assert (publisher.acknowledged.rows, publisher.oldest_pending()) == (0, 1)
    slow.set()
    assert publisher.settle(SECONDS)
    assert (publisher.acknowledged.rows, publisher.acknowledged.cursor) == (6, Position(1, 6))


def test_rows_of_a_key_arrive_in_their_order_though_the_broker_fails_between(
    broker: FakeBroker, publisher: Publisher
) -> None:
    broker.on(b"a1", UNAVAILABLE, refuse(Code.INTERNAL))
    broker.on(b"a3", UNAVAILABLE)
    for number in range(1, 6):
        publisher.send(keyed_batch(number, a=1, b=1))
    assert publisher.settle(SECONDS)
    assert of_key(broker, "a") == [b"a1", b"a2", b"a3", b"a4", b"a5"]
    assert of_key(broker, "b") == [b"b1", b"b2", b"b3", b"b4", b"b5"]
    assert broker.attempts == 13


def test_a_key_that_fails_holds_up_its_own_rows_alone(broker: FakeBroker, publisher: Publisher) -> None:
    slow = threading.Event()
    broker.on(b"a1", after(slow))
    for number in range(1, 4):
        publisher.send(keyed_batch(number, a=1, b=1))
    broker.wait_for(lambda: len(broker.got) == 3)
    assert (of_key(broker, "b"), of_key(broker, "a")) == ([b"b1", b"b2", b"b3"], [])
    assert broker.attempts == 4
    slow.set()
    assert publisher.settle(SECONDS)
    assert of_key(broker, "a") == [b"a1", b"a2", b"a3"]


def test_a_key_that_is_refused_ends_what_waits_behind_it(broker: FakeBroker, publisher: Publisher) -> None:
    slow = threading.Event()
    broker.on(b"a1", after(slow, refuse(Code.INVALID_ARGUMENT)))
    for number in range(1, 5):
        publisher.send(keyed_batch(number, a=1))
    slow.set()
    assert publisher.settle(SECONDS), "nothing is under way any more"
    assert "takes no messages: INVALID_ARGUMENT" in str(publisher.error)
    assert (broker.attempts, publisher.acknowledged.rows) == (1, 0)


def test_a_key_gets_no_more_than_pubsub_takes_of_it_however_fast_it_answers(
    broker: FakeBroker, publisher: Publisher
) -> None:
    for number in (1, 2):
        large = request([b"%d" % number * 5_000_000], "a")
        publisher.send(Batch([large], number, partial(Position, number, 1), 1))
    broker.wait_for(lambda: len(broker.got) == 1)
    assert not publisher.settle(0.05)
    publisher.close()
    assert (broker.attempts, publisher.acknowledged.cursor) == (1, Position(1, 1))


# Allowed


def test_nothing_is_sent_while_it_may_not_be_published(
    broker: FakeBroker, publish_to: Callable[..., Publisher]
) -> None:
    allowed = threading.Event()
    publisher = publish_to(may_publish=allowed.is_set)
    publisher.send(batch(1))
    assert not publisher.settle(3 * publisher_module.FIRST_BACKOFF)
    assert (broker.attempts, publisher.oldest_pending()) == (0, 1)
    allowed.set()
    assert publisher.settle(SECONDS)
    assert broker.bodies == [b"1"]


def test_nothing_is_tried_again_while_it_may_not_be_published(
    broker: FakeBroker, publish_to: Callable[..., Publisher]
) -> None:
    allowed = threading.Event()
    allowed.set()
    publisher = publish_to(may_publish=allowed.is_set)

    def lose_the_lease(request: object, context: grpc.ServicerContext) -> None:
        allowed.clear()
        UNAVAILABLE(request, context)

    broker.on(b"1", lose_the_lease)
    publisher.send(batch(1))
    broker.wait_for(lambda: broker.attempts >= 1)
    assert not publisher.settle(5 * publisher_module.FIRST_BACKOFF)
    assert broker.attempts == 1


def test_a_closed_publisher_sends_nothing_again(broker: FakeBroker) -> None:
    retried = threading.Event()
    with grpc.insecure_channel(broker.address) as channel:
        publisher = Publisher(channel, TOPIC, may_publish=lambda: retried.is_set())
        publisher.send(batch(1))
        publisher.close()
    retried.set()
    assert not publisher.settle(3 * publisher_module.FIRST_BACKOFF)
    assert broker.attempts == 0


# The topic


def test_a_topic_that_is_there_is_fine(publisher: Publisher) -> None:
    publisher.check_topic(always)


def test_a_missing_topic_is_refused_before_the_first_row(broker: FakeBroker, publisher: Publisher) -> None:
    broker.topic.append(refuse(Code.NOT_FOUND, "gone"))
    with pytest.raises(PublishError, match=f"^{TOPIC} takes no messages: NOT_FOUND: gone; create it"):
        publisher.check_topic(always)


def test_whoever_may_not_ask_for_the_topic_may_still_publish(broker: FakeBroker, publisher: Publisher) -> None:
    broker.topic.append(refuse(Code.PERMISSION_DENIED))
    publisher.check_topic(always)


def test_a_broker_that_is_not_there_yet_is_waited_for(
    broker: FakeBroker, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    broker.topic.extend([UNAVAILABLE, UNAVAILABLE])
    publisher.check_topic(always)
    assert caplog.messages[0] == f"{TOPIC}: UNAVAILABLE; trying again for 20 s"
    assert "the topic answers again after" in caplog.messages[1]


def test_a_broker_that_never_comes_is_given_up(broker: FakeBroker, publish_to: Callable[..., Publisher]) -> None:
    broker.topic.extend([UNAVAILABLE] * 100)
    with pytest.raises(PublishError, match=r"UNAVAILABLE: gone; it was away for 0\.1 s"):
        publish_to(patience_seconds=0.1).check_topic(always)


def test_a_replay_that_is_told_to_stop_waits_for_no_broker(broker: FakeBroker, publisher: Publisher) -> None:
    broker.topic.extend([UNAVAILABLE] * 100)
    turns = iter([True, True, False])
    publisher.check_topic(lambda: next(turns))
    assert len(broker.topic) == 98
