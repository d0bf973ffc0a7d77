"""The two gRPC services: which method takes what, waiting pulls and streams; what is stored is the broker's."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
import grpc.aio

from rejeu.local.servers.pubsub import wire
from rejeu.local.servers.pubsub.broker import Broker
from rejeu.local.servers.pubsub.subscription import Consumer, Delivery, Subscription

_SERVER_OPTIONS = (
    # More than a publish request may have: a bigger one gets our INVALID_ARGUMENT, not RESOURCE_EXHAUSTED, which
    # clients retry for minutes.
    ("grpc.max_receive_message_length", 4 * wire.MAX_PUBLISH_BYTES),
    ("grpc.max_send_message_length", -1),
    # Otherwise two servers share a port in silence, each with some of the clients.
    ("grpc.so_reuseport", 0),
)
_PULL_WAIT_SECONDS = 1.0
# What a waiting pull leaves of its RPC's time for the way back.
_PULL_MARGIN_SECONDS = 0.1

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def build_server() -> grpc.aio.Server:
    """A server with an empty broker and no port yet. To be called on the event loop that will run it."""
    broker = Broker()
    publisher = {
        "CreateTopic": _unary(wire.Topic, broker.create_topic),
        "GetTopic": _unary(wire.GetTopicRequest, broker.get_topic),
        "DeleteTopic": _unary(wire.DeleteTopicRequest, broker.delete_topic),
        "ListTopics": _unary(wire.ListTopicsRequest, broker.list_topics),
        "ListTopicSubscriptions": _unary(wire.ListTopicSubscriptionsRequest, broker.list_topic_subscriptions),
        "Publish": _unary(wire.PublishRequest, broker.publish),
    }
    subscriber = {
        "CreateSubscription": _unary(wire.Subscription, broker.create_subscription),
        "GetSubscription": _unary(wire.GetSubscriptionRequest, broker.get_subscription),
        "UpdateSubscription": _unary(wire.UpdateSubscriptionRequest, broker.update_subscription),
        "DeleteSubscription": _unary(wire.DeleteSubscriptionRequest, broker.delete_subscription),
        "ListSubscriptions": _unary(wire.ListSubscriptionsRequest, broker.list_subscriptions),
        "Acknowledge": _unary(wire.AcknowledgeRequest, broker.acknowledge),
        "ModifyAckDeadline": _unary(wire.ModifyAckDeadlineRequest, broker.modify_ack_deadline),
        "Seek": _unary(wire.SeekRequest, broker.seek),
        "Pull": _pull(broker),
        "StreamingPull": _streaming_pull(broker),
    }
    server = grpc.aio.server(options=_SERVER_OPTIONS)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", publisher),
            grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", subscriber),
        )
    )
    return server


@asynccontextmanager
async def _refusals_sent(context: _Context) -> AsyncIterator[None]:
    try:
        yield
    except wire.Refused as refused:
        await context.abort(refused.code, str(refused))


def _serialize(response: wire.Pb) -> bytes:
    return bytes(response.SerializeToString())


def _unary(request_class: wire.Pb, method: Callable[[wire.Pb], wire.Pb]) -> _Handler:
    async def answer(request: wire.Pb, context: _Context) -> wire.Pb:
        async with _refusals_sent(context):
            return method(request)

    return grpc.unary_unary_rpc_method_handler(answer, request_class.FromString, _serialize)


def _pull(broker: Broker) -> _Handler:
    async def answer(request: wire.Pb, context: _Context) -> wire.Pb:
        async with _refusals_sent(context):
            subscription = broker.subscription(request.subscription)
            if request.max_messages < 1:
                raise wire.Refused.invalid(f"max_messages is {request.max_messages}: it must be 1 or more.")
            consumer = Consumer(subscription.config.ack_deadline_seconds, request.max_messages)
            wait = 0.0 if request.return_immediately else _pull_wait(context)
            return _fill(wire.PullResponse(), await _take_within(wait, subscription, consumer))

    return grpc.unary_unary_rpc_method_handler(answer, wire.PullRequest.FromString, _serialize)


def _pull_wait(context: _Context) -> float:
    """Seconds that a pull may wait: an answer without messages is better than none in time."""
    remaining: float | None = context.time_remaining()
    if remaining is None:
        return _PULL_WAIT_SECONDS
    return max(0.0, min(_PULL_WAIT_SECONDS, remaining - _PULL_MARGIN_SECONDS))


async def _take_within(seconds: float, subscription: Subscription, consumer: Consumer) -> list[Delivery]:
    try:
        async with asyncio.timeout(seconds):
            return await subscription.take(consumer)
    except TimeoutError:
        return []


def _streaming_pull(broker: Broker) -> _Handler:
    async def answer(requests: AsyncIterator[wire.Pb], context: _Context) -> AsyncIterator[wire.Pb]:
        async with _refusals_sent(context):
            first = await anext(aiter(requests), wire.StreamingPullRequest())
            subscription = broker.subscription(first.subscription)
            deadline = subscription.config.ack_deadline_seconds
            consumer = Consumer(deadline, first.max_outstanding_messages, first.max_outstanding_bytes)
            _heed(first, subscription, consumer)
            listener = asyncio.ensure_future(_listen(requests, subscription, consumer))
            listener.add_done_callback(lambda _: subscription.wake())
            try:
                while taken := await subscription.take(consumer, until=listener.done):
                    yield _fill(_stream_response(subscription), taken)
                await listener
            finally:
                listener.cancel()

    return grpc.stream_stream_rpc_method_handler(answer, wire.StreamingPullRequest.FromString, _serialize)


async def _listen(requests: AsyncIterator[wire.Pb], subscription: Subscription, consumer: Consumer) -> None:
    async for request in requests:
        if request.subscription:
            raise wire.Refused.invalid(
                f"subscription is {request.subscription}: only a stream's first request names it."
            )
        _heed(request, subscription, consumer)


def _heed(request: wire.Pb, subscription: Subscription, consumer: Consumer) -> None:
    """Do what one request of a stream says about deadlines and acknowledgements."""
    if request.stream_ack_deadline_seconds:
        wire.check_ack_deadline(request.stream_ack_deadline_seconds)
        consumer.ack_deadline_seconds = request.stream_ack_deadline_seconds
    subscription.acknowledge(request.ack_ids)
    for ack_id, seconds in zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=False):
        subscription.modify_ack_deadline([ack_id], seconds)


def _stream_response(subscription: Subscription) -> wire.Pb:
    response = wire.StreamingPullResponse()
    response.subscription_properties.message_ordering_enabled = subscription.config.enable_message_ordering
    return response


def _fill(response: wire.Pb, deliveries: Iterable[Delivery]) -> wire.Pb:
    add = response.received_messages.add
    for delivery in deliveries:
        add(ack_id=delivery.ack_id).message.MergeFromString(delivery.message)
    return response
