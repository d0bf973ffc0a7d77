"""Topics and subscriptions by name, and publishing: raw request in, raw response out; no gRPC server and no waiting."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from rejeu.local.servers.pubsub import wire
from rejeu.local.servers.pubsub.subscription import Subscription

_UNSUPPORTED_TOPIC_FIELDS = ("schema_settings", "ingestion_data_source_settings", "message_transforms")
_UNSUPPORTED_SUBSCRIPTION_FIELDS = (
    "push_config",
    "bigquery_config",
    "cloud_storage_config",
    "bigtable_config",
    "filter",
    "dead_letter_policy",
    "enable_exactly_once_delivery",
    "message_transforms",
)
_FIXED_SUBSCRIPTION_FIELDS = ("name", "topic", "enable_message_ordering")


@dataclass(slots=True)
class _Topic:
    config: wire.Pb
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


class Broker:
    """All that the server knows. Every method may raise `wire.Refused`."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._subscriptions: dict[str, Subscription] = {}
        # From the clock, so that ids grow over a restart and an old ack id never meets a new message.
        self._ids = count(time.time_ns() // 1_000)

    def create_topic(self, request: wire.Pb) -> wire.Pb:
        wire.check_name(request.name, "topics")
        wire.refuse_fields(request, _UNSUPPORTED_TOPIC_FIELDS)
        if request.name in self._topics:
            raise wire.Refused.existing(request.name)
        self._topics[request.name] = _Topic(request)
        return request

    def get_topic(self, request: wire.Pb) -> wire.Pb:
        return self._topic(request.topic).config

    def delete_topic(self, request: wire.Pb) -> wire.Pb:
        """Delete a topic; its subscriptions stay with what they hold, as in the cloud."""
        for subscription in self._topic(request.topic).subscriptions.values():
            subscription.config.topic = wire.DELETED_TOPIC
        del self._topics[request.topic]
        return wire.Empty()

    def list_topics(self, request: wire.Pb) -> wire.Pb:
        names, token = _page(_within(request.project, self._topics), request)
        return wire.ListTopicsResponse(topics=[self._topics[name].config for name in names], next_page_token=token)

    def list_topic_subscriptions(self, request: wire.Pb) -> wire.Pb:
        names, token = _page(self._topic(request.topic).subscriptions, request)
        return wire.ListTopicSubscriptionsResponse(subscriptions=names, next_page_token=token)

    def publish(self, request: wire.Pb) -> wire.Pb:
        """Stamp the messages and queue them in every subscription; without one they are gone, as in the cloud.

        They are kept encoded: a parsed message takes four times the memory, and holds that of its whole request.
        """
        topic = self._topic(request.topic)
        messages = list(request.messages)
        wire.check_messages(messages, request.ByteSize())
        ids = [str(next(self._ids)) for _ in messages]
        if topic.subscriptions:
            encoded = _stamp(messages, ids)
            for subscription in topic.subscriptions.values():
                subscription.put(messages, encoded)
        return wire.PublishResponse(message_ids=ids)

    def create_subscription(self, request: wire.Pb) -> wire.Pb:
        wire.check_name(request.name, "subscriptions")
        if not request.push_config.push_endpoint:
            request.ClearField("push_config")  # an empty one says: pull
        wire.refuse_fields(request, _UNSUPPORTED_SUBSCRIPTION_FIELDS)
        request.ack_deadline_seconds = request.ack_deadline_seconds or wire.DEFAULT_ACK_DEADLINE_SECONDS
        wire.check_ack_deadline(request.ack_deadline_seconds)
        if not request.HasField("message_retention_duration"):
            request.message_retention_duration.seconds = wire.DEFAULT_RETENTION_SECONDS
        topic = self._topic(request.topic)
        if request.name in self._subscriptions:
            raise wire.Refused.existing(request.name)
        subscription = Subscription(request, self._ids)
        self._subscriptions[request.name] = topic.subscriptions[request.name] = subscription
        return request

    def get_subscription(self, request: wire.Pb) -> wire.Pb:
        return self.subscription(request.subscription).config

    def update_subscription(self, request: wire.Pb) -> wire.Pb:
        """Change what the mask names; what a subscription is made with stays for its life, as in the cloud."""
        wanted, config = request.subscription, self.subscription(request.subscription.name).config
        wire.refuse_fields(wanted, _UNSUPPORTED_SUBSCRIPTION_FIELDS)
        wire.check_update_mask(request.update_mask.paths, wanted, _FIXED_SUBSCRIPTION_FIELDS)
        if "ack_deadline_seconds" in request.update_mask.paths:
            wire.check_ack_deadline(wanted.ack_deadline_seconds)
        request.update_mask.MergeMessage(wanted, config, replace_message_field=True)
        return config

    def delete_subscription(self, request: wire.Pb) -> wire.Pb:
        subscription = self.subscription(request.subscription)
        subscription.delete()
        del self._subscriptions[request.subscription]
        if topic := self._topics.get(subscription.config.topic):
            del topic.subscriptions[request.subscription]
        return wire.Empty()

    def list_subscriptions(self, request: wire.Pb) -> wire.Pb:
        names, token = _page(_within(request.project, self._subscriptions), request)
        configs = [self._subscriptions[name].config for name in names]
        return wire.ListSubscriptionsResponse(subscriptions=configs, next_page_token=token)

    def acknowledge(self, request: wire.Pb) -> wire.Pb:
        subscription = self.subscription(request.subscription)
        wire.check_ack_ids(request.ack_ids)
        subscription.acknowledge(request.ack_ids)
        return wire.Empty()

    def modify_ack_deadline(self, request: wire.Pb) -> wire.Pb:
        subscription = self.subscription(request.subscription)
        wire.check_ack_ids(request.ack_ids)
        subscription.modify_ack_deadline(request.ack_ids, request.ack_deadline_seconds)
        return wire.Empty()

    def seek(self, request: wire.Pb) -> wire.Pb:
        """Seek to a time; snapshots do not exist here."""
        subscription = self.subscription(request.subscription)
        if not request.HasField("time"):
            raise wire.Refused.unsupported(f"snapshot {request.snapshot!r}")
        subscription.seek(request.time)
        return wire.SeekResponse()

    def subscription(self, name: str) -> Subscription:
        """The queue of that name."""
        found = self._subscriptions.get(name)
        if found is None:
            wire.check_name(name, "subscriptions")
            raise wire.Refused.missing(name)
        return found

    def _topic(self, name: str) -> _Topic:
        found = self._topics.get(name)
        if found is None:
            wire.check_name(name, "topics")
            raise wire.Refused.missing(name)
        return found


def _stamp(messages: Sequence[wire.Message], ids: Sequence[str]) -> list[bytes]:
    """The encoded messages, with their ids and the time."""
    now = wire.Timestamp()
    now.GetCurrentTime()
    encoded = []
    for message, message_id in zip(messages, ids, strict=True):
        message.message_id = message_id
        message.publish_time.CopyFrom(now)
        encoded.append(message.SerializeToString())
    return encoded


def _within(project: str, names: Iterable[str]) -> list[str]:
    wire.check_project(project)
    return [name for name in names if name.startswith(f"{project}/")]


def _page(names: Iterable[str], request: wire.Pb) -> tuple[list[str], str]:
    """One page by name, and the token of the next one: the last name of this page."""
    rest = sorted(name for name in names if name > request.page_token)
    page = rest[: request.page_size or None]
    return page, page[-1] if len(page) < len(rest) else ""
