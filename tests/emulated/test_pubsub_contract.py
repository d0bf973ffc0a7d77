"""What our clients need of Pub/Sub, asked of the built-in server and of Google's emulator alike."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api_core import exceptions

from tests.emulated.pubsub_feed import PROJECT, WAIT_SECONDS, Feed, bodies, built_in_only

pytestmark = pytest.mark.emulated

MISSING_TOPIC = f"{PROJECT}/topics/missing"
MISSING_SUBSCRIPTION = f"{PROJECT}/subscriptions/missing"


# Resources


def test_what_is_created_is_found_and_listed(feed: Feed) -> None:
    assert feed.publisher.get_topic(topic=feed.topic).name == feed.topic
    subscription = feed.subscriber.get_subscription(subscription=feed.subscription)
    assert (subscription.topic, subscription.ack_deadline_seconds) == (feed.topic, 10)
    assert feed.topic in [topic.name for topic in feed.publisher.list_topics(project=PROJECT)]
    assert feed.subscription in [found.name for found in feed.subscriber.list_subscriptions(project=PROJECT)]
    assert list(feed.publisher.list_topic_subscriptions(topic=feed.topic)) == [feed.subscription]


def test_a_list_comes_in_pages_without_gaps(feed: Feed) -> None:
    names = {feed.subscription, *(feed.add_subscription() for _ in range(4))}
    pages = feed.publisher.list_topic_subscriptions(request={"topic": feed.topic, "page_size": 2})
    listed = [name for page in pages.pages for name in page.subscriptions]
    assert sorted(listed) == sorted(names)


def test_what_is_deleted_is_gone(feed: Feed) -> None:
    feed.subscriber.delete_subscription(subscription=feed.subscription)
    feed.publisher.delete_topic(topic=feed.topic)
    with pytest.raises(exceptions.NotFound):
        feed.subscriber.get_subscription(subscription=feed.subscription)
    with pytest.raises(exceptions.NotFound):
        feed.publisher.get_topic(topic=feed.topic)


def test_a_subscription_outlives_its_topic_with_what_it_holds(feed: Feed) -> None:
    feed.publish(b"kept")
    feed.publisher.delete_topic(topic=feed.topic)
    assert feed.subscriber.get_subscription(subscription=feed.subscription).topic == "_deleted-topic_"
    assert bodies(feed.pull()) == [b"kept"]


def test_a_topic_made_again_feeds_none_of_the_subscriptions_of_the_one_before(feed: Feed) -> None:
    feed.publisher.delete_topic(topic=feed.topic)
    feed.publisher.create_topic(name=feed.topic)
    feed.publish(b"into the void")
    assert feed.subscriber.get_subscription(subscription=feed.subscription).topic == "_deleted-topic_"
    assert list(feed.publisher.list_topic_subscriptions(topic=feed.topic)) == []
    assert not feed.subscriber.pull(subscription=feed.subscription, max_messages=1, timeout=3).received_messages


def test_a_subscription_made_anew_is_fed_by_the_topic_made_again(feed: Feed) -> None:
    feed.publisher.delete_topic(topic=feed.topic)
    feed.publisher.create_topic(name=feed.topic)
    feed.subscriber.delete_subscription(subscription=feed.subscription)
    feed.subscriber.create_subscription(name=feed.subscription, topic=feed.topic)
    feed.publish(b"heard")
    assert bodies(feed.pull()) == [b"heard"]


def test_an_update_changes_what_its_mask_names(feed: Feed) -> None:
    wanted = {"name": feed.subscription, "ack_deadline_seconds": 30, "message_retention_duration": {"seconds": 1200}}
    feed.subscriber.update_subscription(
        request={"subscription": wanted, "update_mask": {"paths": ["ack_deadline_seconds"]}}
    )
    changed = feed.subscriber.get_subscription(subscription=feed.subscription)
    assert changed.ack_deadline_seconds == 30
    assert changed.message_retention_duration == timedelta(days=7)


def _update(feed: Feed, *paths: str, **fields: Any) -> None:
    wanted = {"name": feed.subscription, "topic": feed.topic, **fields}
    feed.subscriber.update_subscription(request={"subscription": wanted, "update_mask": {"paths": list(paths)}})


REFUSALS: dict[str, tuple[type[Exception], Callable[[Feed], Any]]] = {
    "publish to a missing topic": (
        exceptions.NotFound,
        lambda f: f.send([{"data": b"x"}], MISSING_TOPIC),
    ),
    "subscribe to a missing topic": (
        exceptions.NotFound,
        lambda f: f.subscriber.create_subscription(name=MISSING_SUBSCRIPTION, topic=MISSING_TOPIC),
    ),
    "delete a missing topic": (exceptions.NotFound, lambda f: f.publisher.delete_topic(topic=MISSING_TOPIC)),
    "pull from a missing subscription": (
        exceptions.NotFound,
        lambda f: f.subscriber.pull(subscription=MISSING_SUBSCRIPTION, max_messages=1),
    ),
    "stream from a missing subscription": (
        exceptions.NotFound,
        lambda f: f.subscriber.subscribe(MISSING_SUBSCRIPTION, print).result(WAIT_SECONDS),
    ),
    "acknowledge on a missing subscription": (
        exceptions.NotFound,
        lambda f: f.subscriber.acknowledge(subscription=MISSING_SUBSCRIPTION, ack_ids=["1"]),
    ),
    "a topic that exists": (exceptions.AlreadyExists, lambda f: f.publisher.create_topic(name=f.topic)),
    "a subscription that exists": (
        exceptions.AlreadyExists,
        lambda f: f.subscriber.create_subscription(name=f.subscription, topic=f.topic),
    ),
    "a name without a project": (exceptions.InvalidArgument, lambda f: f.publisher.create_topic(name="rates")),
    "a name of two letters": (
        exceptions.InvalidArgument,
        lambda f: f.publisher.create_topic(name=f"{PROJECT}/topics/ab"),
    ),
    "a name of Google's": (
        exceptions.InvalidArgument,
        lambda f: f.publisher.create_topic(name=f"{PROJECT}/topics/google"),
    ),
    "a topic's name for a subscription": (
        exceptions.InvalidArgument,
        lambda f: f.subscriber.create_subscription(name=f.topic, topic=f.topic),
    ),
    "no message": (exceptions.InvalidArgument, lambda f: f.publish()),
    "an empty message among others": (exceptions.InvalidArgument, lambda f: f.publish(b"full", b"", b"full")),
    "1,001 messages": (exceptions.InvalidArgument, lambda f: f.publish(*[b"x"] * 1_001)),
    "pull of 0 messages": (
        exceptions.InvalidArgument,
        lambda f: f.subscriber.pull(subscription=f.subscription, max_messages=0),
    ),
    "an ack id that never was one": (
        exceptions.InvalidArgument,
        lambda f: f.subscriber.acknowledge(subscription=f.subscription, ack_ids=["nonsense"]),
    ),
    "an update of a missing subscription": (
        exceptions.NotFound,
        lambda f: f.subscriber.update_subscription(
            request={
                "subscription": {"name": MISSING_SUBSCRIPTION, "ack_deadline_seconds": 30},
                "update_mask": {"paths": ["ack_deadline_seconds"]},
            }
        ),
    ),
    "an update of nothing": (exceptions.InvalidArgument, lambda f: _update(f)),
    "an update of the topic": (exceptions.InvalidArgument, lambda f: _update(f, "topic")),
    "an update of the ordering": (
        exceptions.InvalidArgument,
        lambda f: _update(f, "enable_message_ordering", enable_message_ordering=True),
    ),
    "no ack id": (
        exceptions.InvalidArgument,
        lambda f: f.subscriber.acknowledge(subscription=f.subscription, ack_ids=[]),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_wrong_request_gets_the_status_of_the_cloud(feed: Feed, case: str) -> None:
    error, call = REFUSALS[case]
    with pytest.raises(error):
        call(feed)


STRICTER: dict[str, tuple[type[Exception], str, Callable[[Feed], Any]]] = {
    "missing topic": (
        exceptions.NotFound,
        MISSING_TOPIC,
        lambda f: f.send([{"data": b"x"}], MISSING_TOPIC),
    ),
    "10 MB": (
        exceptions.InvalidArgument,
        "10000000",
        lambda f: f.send([{"data": b"x" * 10_000_000}]),
    ),
    "12 MB": (
        exceptions.InvalidArgument,
        "10000000",
        lambda f: f.send([{"data": b"x" * 12_000_000}]),
    ),
    "deadline": (exceptions.InvalidArgument, "10 to 600", lambda f: f.add_subscription(ack_deadline_seconds=9)),
    "project": (
        exceptions.InvalidArgument,
        "6 characters",
        lambda f: f.publisher.create_topic(name="projects/p/topics/rates"),
    ),
    "filter": (
        exceptions.MethodNotImplemented,
        "filter",
        lambda f: f.add_subscription(filter='attributes.kind = "rate"'),
    ),
    "push": (
        exceptions.MethodNotImplemented,
        "push_config",
        lambda f: f.add_subscription(push_config={"push_endpoint": "https://example.com"}),
    ),
}


@built_in_only
@pytest.mark.parametrize("case", STRICTER)
def test_the_built_in_server_refuses_what_the_cloud_or_itself_would_not_do_and_says_why(feed: Feed, case: str) -> None:
    error, hint, call = STRICTER[case]
    with pytest.raises(error, match=hint):
        call(feed)


# Messages


def test_a_message_arrives_as_it_was_sent_with_id_and_time(feed: Feed) -> None:
    [message_id] = feed.publish(b"\x00\xff", attributes={"row_id": "1", "é": "ü"})
    [received] = feed.pull()
    assert received.message.data == b"\x00\xff"
    assert dict(received.message.attributes) == {"row_id": "1", "é": "ü"}
    assert received.message.message_id == message_id
    assert abs(received.message.publish_time - datetime.now(UTC)) < timedelta(seconds=WAIT_SECONDS)


def test_ids_are_unique_and_grow_in_the_order_of_the_request(feed: Feed) -> None:
    ids = [int(message_id) for _ in range(3) for message_id in feed.publish(*[b"x"] * 1_000)]
    assert ids == sorted(set(ids))


def test_a_request_of_nine_megabytes_passes(feed: Feed) -> None:
    feed.publish(*[b"x" * 3_000_000] * 3)
    # One by one: on an emulator the official client takes 4 MiB a response, which Google's does not mind.
    assert [len(body) for body in bodies(feed.pull(at_least=3, limit=1))] == [3_000_000] * 3


def test_every_subscription_gets_every_message(feed: Feed) -> None:
    second = feed.add_subscription()
    feed.publish(b"a", b"b")
    assert bodies(feed.pull(at_least=2)) == [b"a", b"b"]
    assert bodies(feed.pull(at_least=2, subscription=second)) == [b"a", b"b"]


def test_a_subscription_gets_nothing_from_before_it(feed: Feed) -> None:
    feed.publish(b"before")
    late = feed.add_subscription()
    feed.publish(b"after")
    assert bodies(feed.pull(subscription=late)) == [b"after"]


def test_a_pull_takes_no_more_than_asked(feed: Feed) -> None:
    feed.publish(*[b"%d" % number for number in range(10)])
    assert len(feed.pull(limit=3)) == 3
    assert len(feed.pull(at_least=7)) == 7


def test_a_pull_without_messages_ends_before_its_deadline(feed: Feed) -> None:
    assert not feed.subscriber.pull(subscription=feed.subscription, max_messages=1, timeout=3).received_messages


def test_a_waiting_pull_is_woken_by_a_publish(feed: Feed) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(feed.pull)
        feed.publish(b"at last")
        assert bodies(waiting.result(WAIT_SECONDS)) == [b"at last"]


# Acknowledgement


def test_an_acknowledged_message_never_comes_back(feed: Feed) -> None:
    feed.publish(b"done", b"open")
    done, still_open = feed.pull(at_least=2)
    feed.acknowledge([done])
    feed.set_deadline([done, still_open], 0)
    feed.publish(b"next")
    assert sorted(bodies(feed.pull(at_least=2))) == [b"next", b"open"]


def test_a_message_not_acknowledged_in_time_comes_back(feed: Feed) -> None:
    feed.publish(b"forgotten")
    first = feed.pull()
    feed.set_deadline(first, 1)
    [again] = feed.pull()
    assert again.message.message_id == first[0].message.message_id
    assert again.ack_id != first[0].ack_id


def test_a_deadline_can_be_put_off(feed: Feed) -> None:
    feed.publish(b"slow", b"lost")
    slow, lost = feed.pull(at_least=2)
    feed.set_deadline([slow, lost], 1)
    feed.set_deadline([slow], 60)
    assert bodies(feed.pull()) == [b"lost"]


def test_a_refused_message_comes_back_at_once(feed: Feed) -> None:
    feed.publish(b"again")
    started = time.monotonic()
    feed.set_deadline(feed.pull(), 0)
    assert bodies(feed.pull()) == [b"again"]
    assert time.monotonic() - started < 10, "that is the ack deadline, not the refusal"


def test_an_acknowledgement_counts_for_one_subscription_only(feed: Feed) -> None:
    second = feed.add_subscription()
    feed.publish(b"x")
    feed.acknowledge(feed.pull())
    assert bodies(feed.pull(subscription=second)) == [b"x"]


def test_a_seek_to_now_empties_the_subscription(feed: Feed) -> None:
    feed.publish(b"out", b"waiting")
    feed.pull(limit=1)
    feed.subscriber.seek(request={"subscription": feed.subscription, "time": datetime.now(UTC) + timedelta(seconds=1)})
    feed.publish(b"new")
    assert bodies(feed.pull()) == [b"new"]


# Ordering


@pytest.fixture
def ordered(feed: Feed) -> Feed:
    """The feed with a subscription that keeps the order of keys."""
    name = feed.add_subscription(enable_message_ordering=True)
    return Feed(feed.publisher, feed.subscriber, feed.topic, name)


def publish_keys(feed: Feed, *pairs: str) -> None:
    """Publish messages written as key and number, such as a1."""
    messages = [{"data": pair.encode(), "ordering_key": pair[0]} for pair in pairs]
    feed.send(messages)


def test_messages_of_a_key_come_in_order(ordered: Feed) -> None:
    for start in range(0, 300, 100):
        publish_keys(ordered, *[f"{key}{number:03}" for number in range(start, start + 100) for key in "ab"])
    received: list[bytes] = []
    while len(received) < 600:
        batch = ordered.pull(limit=70)
        received += bodies(batch)
        ordered.acknowledge(batch)
    for key in (b"a", b"b"):
        assert [body for body in received if body.startswith(key)] == [b"%s%03d" % (key, n) for n in range(300)]


@built_in_only
def test_a_refused_message_takes_along_those_that_follow_its_key(ordered: Feed) -> None:
    publish_keys(ordered, "a1", "b1", "a2", "a3", "b2")
    received = {message.message.data: message for message in ordered.pull(at_least=5)}
    ordered.set_deadline([received[b"a2"]], 0)
    ordered.acknowledge([received[b"a1"], received[b"a3"]])  # a3 has gone back with a2: too late for it
    assert bodies(ordered.pull(at_least=2)) == [b"a2", b"a3"]


@built_in_only
def test_a_key_waits_for_whom_holds_it_and_the_other_keys_do_not(ordered: Feed) -> None:
    publish_keys(ordered, "a1", "a2", "b1")
    [first] = ordered.pull(limit=1)
    assert bodies(ordered.pull()) == [b"b1"]
    ordered.acknowledge([first])
    assert bodies(ordered.pull()) == [b"a2"]
