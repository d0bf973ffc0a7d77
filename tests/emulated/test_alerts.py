"""What Cloud Monitoring publishes, read from a real subscription: open alerts are kept until they were seen to."""

from __future__ import annotations

import json
import logging

import pytest
from google.api_core.exceptions import NotFound

from rejeu.gcp import alerts
from rejeu.gcp.alerts import Alert, acknowledge, pull_alerts
from tests.emulated.pubsub_feed import PROJECT, Feed

pytestmark = pytest.mark.emulated

SUMMARY = "Request latencies for rejeu-test crypto-topic has not been seen for over 3 minutes"


@pytest.fixture(autouse=True)
def short_pulls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "PULL_SECONDS", 1.0)


def notification(state: str = "open", **labels: str) -> bytes:
    """A message of the notification channel, with the parts that version 1.2 has."""
    incident = {
        "incident_id": "0.opqiw61fsv7p",
        "scoping_project_id": "rejeu-test",
        "scoping_project_number": 12345,
        "url": "https://console.cloud.google.com/monitoring/alerting/incidents/0.opqiw61fsv7p?project=rejeu-test",
        "started_at": 1795176000,
        "ended_at": 1795176600 if state == "closed" else None,
        "state": state,
        "summary": SUMMARY,
        "observed_value": "",
        "resource": {"type": "pubsub_topic", "labels": {"project_id": "rejeu-test", **labels}},
        "resource_type_display_name": "Cloud Pub/Sub Topic",
        "metric": {"type": "pubsub.googleapis.com/topic/send_request_latencies", "displayName": "", "labels": {}},
        "metadata": {"system_labels": {}, "user_labels": {}},
        "policy_name": "Rejeu: nothing is published to crypto-topic",
        "condition": {"name": "projects/rejeu-test/alertPolicies/1/conditions/2", "conditionAbsent": {}},
        "documentation": {"content": "...", "mime_type": "text/markdown"},
    }
    return json.dumps({"incident": incident, "version": "1.2"}).encode()


def pull(feed: Feed) -> list[Alert]:
    return pull_alerts(feed.subscriber, feed.subscription)


def give_back(feed: Feed, found: list[Alert]) -> None:
    """As when the worker that pulled them has died, and their deadline has passed."""
    ack_ids = [alert.ack_id for alert in found]
    feed.subscriber.modify_ack_deadline(subscription=feed.subscription, ack_ids=ack_ids, ack_deadline_seconds=0)


def test_an_open_alert_names_its_topic(feed: Feed) -> None:
    feed.publish(notification(topic_id="crypto-topic"))
    [alert] = pull(feed)
    assert (alert.topic, alert.summary) == ("crypto-topic", SUMMARY)


def test_an_alert_comes_again_until_it_is_acknowledged(feed: Feed) -> None:
    feed.publish(notification(topic_id="crypto-topic"))
    give_back(feed, pull(feed))
    again = pull(feed)
    assert [alert.topic for alert in again] == ["crypto-topic"]
    acknowledge(feed.subscriber, feed.subscription, [alert.ack_id for alert in again])
    give_back(feed, again)
    assert pull(feed) == []


def test_no_alert_is_an_answer(feed: Feed) -> None:
    assert pull(feed) == []


def test_an_alert_that_is_over_is_done_with(feed: Feed) -> None:
    feed.publish(notification("closed", topic_id="crypto-topic"))
    assert pull(feed) == []
    feed.publish(notification(topic_id="another-topic"))
    assert [alert.topic for alert in pull(feed)] == ["another-topic"]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff not text",
        b"[]",
        b"{}",
        notification(state="OPEN", topic_id="crypto-topic"),
        notification(subscription_id="crypto-subscription"),
    ],
    ids=["no text", "no object", "no incident", "an unknown state", "of no topic"],
)
def test_what_is_no_alert_is_told_once_and_does_not_hide_those_that_are(
    feed: Feed, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    feed.publish(body, notification(topic_id="crypto-topic"))
    with caplog.at_level(logging.WARNING):
        found = pull(feed)
    assert [alert.topic for alert in found] == ["crypto-topic"]
    assert "this is no alert about a topic" in caplog.text
    give_back(feed, found)
    caplog.clear()
    assert [alert.topic for alert in pull(feed)] == ["crypto-topic"]
    assert caplog.text == ""


def test_a_flood_is_taken_in_parts(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "MOST", 2)
    feed.publish(*[notification(topic_id=f"topic-{number}") for number in range(3)])
    assert len(pull(feed)) <= 2


def test_a_subscription_that_is_not_there_is_an_error(feed: Feed) -> None:
    with pytest.raises(NotFound):
        pull_alerts(feed.subscriber, f"{PROJECT}/subscriptions/never-made")
