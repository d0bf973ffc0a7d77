"""A Pub/Sub publisher service in this process that misbehaves on command; no fixture and no test."""

from __future__ import annotations

import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
from google.pubsub_v1 import types

PublishRequest, PublishResponse = types.PublishRequest.pb(), types.PublishResponse.pb()
GetTopicRequest, Topic = types.GetTopicRequest.pb(), types.Topic.pb()
SERVICE = "google.pubsub.v1.Publisher"
OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1))
WAIT_SECONDS = 20.0

Answer = Callable[[Any, grpc.ServicerContext], Any]


class FakeBroker:
    """Acknowledges what it gets, except where `on` said otherwise; remembers all of it."""

    def __init__(self) -> None:
        self.got: list[Any] = []  # the messages of acknowledged requests
        self.attempts = 0
        self.topic: deque[Answer] = deque()
        """How the next questions for the topic are answered; afterwards it exists."""
        self._answers: defaultdict[bytes, deque[Answer]] = defaultdict(deque)
        self._changed = threading.Condition()
        self._port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def bodies(self) -> list[bytes]:
        """What it got, sorted: requests that are under way together overtake each other."""
        with self._changed:
            return sorted(message.data for message in self.got)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen: on the same port as before, where there was one."""
        self._server = grpc.server(ThreadPoolExecutor(16), options=OPTIONS)
        handlers = {
            "Publish": grpc.unary_unary_rpc_method_handler(
                self._publish, PublishRequest.FromString, PublishResponse.SerializeToString
            ),
            "GetTopic": grpc.unary_unary_rpc_method_handler(
                self._get_topic, GetTopicRequest.FromString, Topic.SerializeToString
            ),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._port = self._server.add_insecure_port(self.address)
        self._server.start()

    def stop(self) -> None:
        """Be gone, connections and all."""
        self._server.stop(None).wait()

    def on(self, body: bytes, *answers: Answer) -> None:
        """How the next requests are answered whose first message has this body."""
        self._answers[body].extend(answers)

    def wait_for(self, true: Callable[[], bool]) -> None:
        """Wait until something that requests change is so."""
        with self._changed:
            assert self._changed.wait_for(true, WAIT_SECONDS), f"it never was so: {self.bodies}"

    def _publish(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._changed:
            self.attempts += 1
            answers = self._answers[request.messages[0].data]
            answer = answers.popleft() if answers else acknowledge
            self._changed.notify_all()
        response = answer(request, context)
        with self._changed:
            self.got += request.messages
            self._changed.notify_all()
        return response

    def _get_topic(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.topic:
            self.topic.popleft()(request, context)
        return Topic(name=request.topic)


def acknowledge(request: Any, context: grpc.ServicerContext) -> Any:
    """An id for every message."""
    return PublishResponse(message_ids=[os.urandom(4).hex() for _ in request.messages])


def too_few_ids(request: Any, context: grpc.ServicerContext) -> Any:
    """An id for every message but one."""
    return PublishResponse(message_ids=["id" for _ in request.messages[1:]])


def refuse(code: grpc.StatusCode, details: str = "") -> Answer:
    """An error in place of an answer."""

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(code, details)

    return answer


UNAVAILABLE = refuse(grpc.StatusCode.UNAVAILABLE, "gone")


def after(event: threading.Event, answer: Answer = acknowledge) -> Answer:
    """An answer that is held back until the event."""

    def wait(request: Any, context: grpc.ServicerContext) -> Any:
        assert event.wait(WAIT_SECONDS)
        return answer(request, context)

    return wait
