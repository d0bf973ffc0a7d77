"""The protobuf classes, limits, names and refusals of google.pubsub.v1 that the server uses; no state and no server.

Limits: https://cloud.google.com/pubsub/quotas; names: https://cloud.google.com/pubsub/docs/pubsub-basics.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any, Protocol, TypeAlias

import grpc
from google.protobuf import empty_pb2, timestamp_pb2
from google.pubsub_v1 import types

MAX_PUBLISH_MESSAGES = 1_000
MAX_PUBLISH_BYTES = 10_000_000
MAX_PULL_MESSAGES = 1_000
# Below the 4 MiB that a gRPC client takes by default; a single message may be larger.
MAX_PULL_BYTES = 3_000_000
ACK_DEADLINE_SECONDS = range(10, 601)
DEFAULT_ACK_DEADLINE_SECONDS = 10
DEFAULT_RETENTION_SECONDS = 7 * 24 * 3600
DELETED_TOPIC = "_deleted-topic_"

Pb: TypeAlias = Any
"""A raw protobuf message, whose class is built at run time: there is no static type to name.

Raw, because proto-plus wraps every field it touches, at several times the cost.
"""

Empty = empty_pb2.Empty
Timestamp = timestamp_pb2.Timestamp
Topic = types.Topic.pb()
Subscription = types.Subscription.pb()
GetTopicRequest = types.GetTopicRequest.pb()
DeleteTopicRequest = types.DeleteTopicRequest.pb()
ListTopicsRequest = types.ListTopicsRequest.pb()
ListTopicsResponse = types.ListTopicsResponse.pb()
ListTopicSubscriptionsRequest = types.ListTopicSubscriptionsRequest.pb()
ListTopicSubscriptionsResponse = types.ListTopicSubscriptionsResponse.pb()
PubsubMessage = types.PubsubMessage.pb()
PublishRequest = types.PublishRequest.pb()
PublishResponse = types.PublishResponse.pb()
GetSubscriptionRequest = types.GetSubscriptionRequest.pb()
UpdateSubscriptionRequest = types.UpdateSubscriptionRequest.pb()
DeleteSubscriptionRequest = types.DeleteSubscriptionRequest.pb()
ListSubscriptionsRequest = types.ListSubscriptionsRequest.pb()
ListSubscriptionsResponse = types.ListSubscriptionsResponse.pb()
PullRequest = types.PullRequest.pb()
PullResponse = types.PullResponse.pb()
StreamingPullRequest = types.StreamingPullRequest.pb()
StreamingPullResponse = types.StreamingPullResponse.pb()
AcknowledgeRequest = types.AcknowledgeRequest.pb()
ModifyAckDeadlineRequest = types.ModifyAckDeadlineRequest.pb()
SeekRequest = types.SeekRequest.pb()
SeekResponse = types.SeekResponse.pb()


class Message(Protocol):
    """What the server touches of a raw `PubsubMessage`."""

    data: bytes
    attributes: Collection[str]
    message_id: str
    publish_time: Any
    ordering_key: str

    def SerializeToString(self) -> bytes:
        """The encoded message."""


class Refused(Exception):
    """A request that the real service would refuse too, with the status it would give."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code

    @classmethod
    def invalid(cls, reason: str) -> "Refused":
        """The request is wrong whatever the server holds."""
        return cls(grpc.StatusCode.INVALID_ARGUMENT, reason)

    @classmethod
    def missing(cls, name: str) -> "Refused":
        """The request is well formed, but what it names is not here."""
        return cls(grpc.StatusCode.NOT_FOUND, f"Resource not found (resource={name}): create it first.")

    @classmethod
    def existing(cls, name: str) -> "Refused":
        """The name is taken."""
        return cls(grpc.StatusCode.ALREADY_EXISTS, f"Resource already exists in the project (resource={name}).")

    @classmethod
    def unsupported(cls, what: str) -> "Refused":
        """The real service does it, this one does not."""
        remedy = "leave it out, or set PUBSUB_EMULATOR_HOST to Google's emulator."
        return cls(grpc.StatusCode.UNIMPLEMENTED, f"{what}: the built-in Pub/Sub server does not do this; {remedy}")


_PROJECT = re.compile(r"projects/[a-z0-9][a-z0-9.:-]{4,}[a-z0-9]")
_RESOURCE = re.compile(_PROJECT.pattern + r"/(topics|subscriptions)/(?!goog)[A-Za-z][\w.~+%-]{2,254}", re.ASCII)


def check_project(name: str) -> None:
    """Refuse a project name that the cloud would refuse."""
    if not _PROJECT.fullmatch(name):
        raise Refused.invalid(
            f"Invalid project name {name!r}: write projects/PROJECT, with an id of 6 characters or more."
        )


def check_name(name: str, collection: str) -> None:
    """Refuse a resource name that the cloud would refuse; `collection` is topics or subscriptions."""
    match = _RESOURCE.fullmatch(name)
    if not match or match[1] != collection:
        rule = (
            f"write projects/PROJECT/{collection}/ID, the project with 6 characters or more, the id 3 to 255 letters, "
            'digits or -_.~+%, starting with a letter and not with "goog"'
        )
        raise Refused.invalid(f"Invalid {collection} name {name!r}: {rule}.")


def refuse_fields(request: Pb, unsupported: Collection[str]) -> None:
    """Refuse what would be accepted in silence and then not be done."""
    for field, _ in request.ListFields():
        if field.name in unsupported:
            raise Refused.unsupported(f"{field.name} of {request.name}")


def check_ack_deadline(seconds: int) -> None:
    """Refuse a deadline that no subscription and no stream may have."""
    if seconds not in ACK_DEADLINE_SECONDS:
        raise Refused.invalid(f"The ack deadline is {seconds} s: it must be 10 to 600 s.")


def check_update_mask(paths: Collection[str], wanted: Pb, fixed: Collection[str]) -> None:
    """Refuse an update of nothing, of what the resource does not have, or of what stays for its life."""
    known = wanted.DESCRIPTOR.fields_by_name
    if not paths:
        raise Refused.invalid("The update mask is empty: name at least one field.")
    for path in paths:
        if path not in known or path in fixed:
            raise Refused.invalid(f"The update mask has {path!r}: it must name fields that can be changed.")


def check_ack_ids(ack_ids: Collection[str]) -> None:
    """Refuse a request about no message at all."""
    if not ack_ids:
        raise Refused.invalid("The request has no ack ids: send back the ack_id of at least one received message.")


def check_messages(messages: Sequence[Message], size: int) -> None:
    """Refuse a publish request of `size` bytes that breaks one of the service's limits.

    Sizes and number of the attributes are not looked at: it would double the price of publishing.
    """
    if not messages:
        raise Refused.invalid("The request has 0 messages: publish at least 1.")
    if len(messages) > MAX_PUBLISH_MESSAGES:
        raise Refused.invalid(
            f"The request has {len(messages)} messages, {MAX_PUBLISH_MESSAGES} are allowed: split it."
        )
    if size > MAX_PUBLISH_BYTES:
        raise Refused.invalid(f"The request has {size} bytes, {MAX_PUBLISH_BYTES} are allowed: split it.")
    for index, message in enumerate(messages):
        if not message.data and not message.attributes:
            raise Refused.invalid(f"Message {index} is empty: it needs data or at least one attribute.")
