"""What a stream needs of Pub/Sub, compared with what is there: mended, refused with the remedy, or said to be lossy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from rejeu.errors import RequestError
from rejeu.gcp.topics import ACK_DEADLINE_SECONDS, RETENTION, TAP_RETENTION, ensure_tap, ensure_topic
from rejeu.spec.model import StreamSpec
from rejeu.target import Target
from tests.emulated.pubsub_feed import PROJECT_ID, Feed, bodies, built_in_only

pytestmark = pytest.mark.emulated

TARGET = Target(project=PROJECT_ID)


def spec_of(feed: Feed, **replay: Any) -> StreamSpec:
    """A stream on the feed's topic."""
    return StreamSpec.model_validate(
        {
            "stream": "clicks",
            "event_time": "at",
            "key": ["user"],
            "live": {"topic": feed.topic.rpartition("/")[2], "table": "web.clicks"},
            "replay": {"source": {"table": "web.history"}, **replay},
        }
    )


@pytest.fixture
def clicks(feed: Feed) -> Feed:
    """The feed as the streaming job of `clicks` reads it."""
    assert ensure(feed) is None
    return replace(feed, subscription=TARGET.subscription(spec_of(feed).subscription))


def ensure(feed: Feed, **replay: Any) -> str | None:
    return ensure_topic(feed.publisher, feed.subscriber, spec_of(feed, **replay), TARGET)


def make_topic_anew(feed: Feed) -> None:
    feed.publisher.delete_topic(topic=feed.topic)
    feed.publisher.create_topic(name=feed.topic)


def make_subscription(feed: Feed, **options: Any) -> None:
    """The streaming job's subscription as somebody else makes it."""
    name = TARGET.subscription(spec_of(feed).subscription)
    feed.subscriber.create_subscription(request={"name": name, "topic": feed.topic, **options})


@pytest.mark.parametrize("lose", [make_topic_anew, lambda feed: feed.publisher.delete_topic(topic=feed.topic)])
def test_rows_arrive_again_after_the_topic_was_deleted(clicks: Feed, lose: Callable[[Feed], None]) -> None:
    lose(clicks)
    lost = ensure(clicks)
    assert lost is not None
    assert clicks.subscription in lost
    assert "missing until clicks.reconcile has run" in lost
    clicks.publish(b"after")
    assert bodies(clicks.pull()) == [b"after"]


def test_what_is_well_costs_nothing_and_says_nothing(clicks: Feed) -> None:
    clicks.publish(b"kept")
    assert ensure(clicks) is None
    assert bodies(clicks.pull()) == [b"kept"]


def test_a_missing_subscription_is_made_and_costs_no_row_that_anybody_awaited(clicks: Feed) -> None:
    clicks.subscriber.delete_subscription(subscription=clicks.subscription)
    assert ensure(clicks) is None
    clicks.publish(b"x")
    assert bodies(clicks.pull()) == [b"x"]


def test_the_tap_hears_the_topic_that_was_made_again(feed: Feed) -> None:
    spec = spec_of(feed)
    ensure_tap(feed.subscriber, spec, TARGET)
    make_topic_anew(feed)
    ensure_tap(feed.subscriber, spec, TARGET)
    feed.publish(b"heard")
    assert bodies(feed.pull(subscription=TARGET.subscription(spec.tap))) == [b"heard"]


def test_a_shorter_life_of_messages_is_mended_with_what_the_subscription_holds(feed: Feed) -> None:
    make_subscription(feed, ack_deadline_seconds=600, message_retention_duration=TAP_RETENTION)
    name = TARGET.subscription(spec_of(feed).subscription)
    feed.publish(b"kept")
    assert ensure(feed) is None
    mended = feed.subscriber.get_subscription(subscription=name)
    assert (mended.ack_deadline_seconds, mended.message_retention_duration) == (ACK_DEADLINE_SECONDS, RETENTION)
    assert bodies(feed.pull(subscription=name)) == [b"kept"]


@built_in_only
def test_whoever_keeps_messages_for_longer_may(feed: Feed) -> None:
    longer = RETENTION + timedelta(days=1)
    make_subscription(feed, ack_deadline_seconds=ACK_DEADLINE_SECONDS, message_retention_duration=longer)
    assert ensure(feed) is None
    name = TARGET.subscription(spec_of(feed).subscription)
    assert feed.subscriber.get_subscription(subscription=name).message_retention_duration == longer


def test_an_order_that_is_asked_for_later_is_refused_with_the_remedy(clicks: Feed) -> None:
    clicks.publish(b"kept")
    with pytest.raises(RequestError) as refused:
        ensure(clicks, ordering_key=["user"])
    assert f"subscription {clicks.subscription} exists, but it keeps no order" in str(refused.value)
    assert f"gcloud pubsub subscriptions delete {clicks.subscription}" in str(refused.value)
    assert bodies(clicks.pull()) == [b"kept"]


def test_an_order_that_nobody_asks_for_any_more_does_no_harm(feed: Feed) -> None:
    make_subscription(feed, enable_message_ordering=True)
    assert ensure(feed) is None


def test_a_subscription_of_another_topic_is_refused(feed: Feed, out: Feed) -> None:
    name = TARGET.subscription(spec_of(feed).subscription)
    feed.subscriber.create_subscription(name=name, topic=out.topic)
    with pytest.raises(RequestError, match=f"it is of the topic {out.topic}, and must be of {feed.topic}"):
        ensure(feed)
