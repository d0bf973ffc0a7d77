"""Makes sure that a stream's topic and subscriptions exist, as its spec wants them.

Every function may be called again and again; nothing that exists is replaced.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from google.api_core.exceptions import AlreadyExists
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.protobuf.duration_pb2 import Duration

from rejeu.spec.model import StreamSpec
from rejeu.target import Target

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 60.0
ACK_DEADLINE_SECONDS = 20
"""Messages that a streaming job had not acknowledged when it died come again after this; writing takes 2 s."""
RETENTION_SECONDS = 7 * 24 * 3600
"""The longest that Pub/Sub keeps messages; a stopped streaming job leaves them unread."""
TAP_RETENTION_SECONDS = 600
"""The shortest that Pub/Sub offers: older messages are of no use to a tap."""
TAP_EXPIRATION = timedelta(days=7)
"""Pub/Sub deletes a tap that nobody reads for so long."""


def ensure_topic(publisher: PublisherClient, subscriber: SubscriberClient, spec: StreamSpec, target: Target) -> None:
    """Create the topic and the streaming job's subscription, where they are missing."""
    topic = target.topic(spec.live.topic)
    subscription = target.subscription(spec.subscription)
    try:
        publisher.create_topic(name=topic, timeout=TIMEOUT_SECONDS)
        log.info("%s: created %s", spec.stream, topic)
    except AlreadyExists:
        pass
    try:
        subscriber.create_subscription(
            request={
                "name": subscription,
                "topic": topic,
                "ack_deadline_seconds": ACK_DEADLINE_SECONDS,
                "message_retention_duration": Duration(seconds=RETENTION_SECONDS),
                "enable_message_ordering": bool(spec.ordering_key),
            },
            timeout=TIMEOUT_SECONDS,
        )
        log.info("%s: created %s", spec.stream, subscription)
    except AlreadyExists:
        pass


def ensure_tap(subscriber: SubscriberClient, spec: StreamSpec, target: Target) -> None:
    """Create the watchdog's own subscription for the probe `tap`, where it is missing."""
    tap = target.subscription(spec.tap)
    try:
        subscriber.create_subscription(
            request={
                "name": tap,
                "topic": target.topic(spec.live.topic),
                "message_retention_duration": Duration(seconds=TAP_RETENTION_SECONDS),
                "expiration_policy": {"ttl": TAP_EXPIRATION},
            },
            timeout=TIMEOUT_SECONDS,
        )
        log.info("%s: created %s", spec.stream, tap)
    except AlreadyExists:
        pass
