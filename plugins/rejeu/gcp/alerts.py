"""Reads the alerts about topics that Cloud Monitoring's notification channel publishes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from google.api_core.exceptions import DeadlineExceeded
from google.cloud.pubsub_v1 import SubscriberClient
from google.pubsub_v1.types import ReceivedMessage
from pydantic import AliasPath, BaseModel, Field, ValidationError

log = logging.getLogger(__name__)

PULL_SECONDS: Final = 3.0
"""How long a pull waits for alerts; usually there are none."""
ACK_SECONDS: Final = 30.0
MOST: Final = 100
"""How many alerts are pulled at once; the rest waits for the next pull."""


class Notification(BaseModel):
    """The fields that are read of a notification, version 1.2.

    Source: https://cloud.google.com/monitoring/support/notification-options#pubsub
    """

    state: Literal["open", "closed"] = Field(validation_alias=AliasPath("incident", "state"))
    topic: str = Field(validation_alias=AliasPath("incident", "resource", "labels", "topic_id"))
    summary: str = Field("", validation_alias=AliasPath("incident", "summary"))


@dataclass(frozen=True)
class Alert:
    """An open alert about a topic; it comes again until `acknowledge` gets its `ack_id`."""

    topic: str
    summary: str
    ack_id: str


def pull_alerts(subscriber: SubscriberClient, subscription: str) -> list[Alert]:
    """The open alerts that wait. Messages about closed alerts and foreign messages are acknowledged at once.

    Raises GoogleAPICallError where Pub/Sub does not answer.
    """
    alerts = [(message.ack_id, _read(message)) for message in _pull(subscriber, subscription)]
    acknowledge(subscriber, subscription, [ack_id for ack_id, alert in alerts if alert is None])
    return [alert for _, alert in alerts if alert is not None]


def acknowledge(subscriber: SubscriberClient, subscription: str, ack_ids: Sequence[str]) -> None:
    """Have these alerts not come again. Raises GoogleAPICallError where Pub/Sub does not answer."""
    if ack_ids:
        request = {"subscription": subscription, "ack_ids": list(ack_ids)}
        subscriber.acknowledge(request=request, timeout=ACK_SECONDS)


def _pull(subscriber: SubscriberClient, subscription: str) -> list[ReceivedMessage]:
    request = {"subscription": subscription, "max_messages": MOST}
    try:
        return list(subscriber.pull(request=request, retry=None, timeout=PULL_SECONDS).received_messages)
    except DeadlineExceeded:  # how Pub/Sub says that nothing came
        return []


def _read(message: ReceivedMessage) -> Alert | None:
    try:
        found = Notification.model_validate_json(message.message.data)
    except ValidationError as error:
        log.warning("this is no alert about a topic: %r: %s", message.message.data, error)
        return None
    return Alert(found.topic, found.summary, message.ack_id) if found.state == "open" else None
