"""Every probe that is asked beside the heartbeat keeps the rules of `rejeu.testing.probes`, on the real wire."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from datetime import datetime, timedelta
from typing import Any, Final

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types

from rejeu.ports import Verdict, Watched, Witness
from rejeu.spec.probes import PROBES
from rejeu.testing import MemoryStore
from rejeu.testing.probes import ProbeContract
from rejeu.watchdog.probes.metric import ASK_EVERY, DELAYS, SAMPLING
from tests.fakes.metric_server import MetricServer

METRIC: Final = "pubsub.googleapis.com/topic/send_request_latencies"
TAP: Final = "projects/rejeu-test/subscriptions/clicks-tap"


def make(name: str, silence: timedelta, last_seen: datetime | None) -> Witness:
    """The probe as the watchdog makes it."""
    second = timedelta(seconds=1)
    watched = Watched(
        stream="clicks",
        project="rejeu-test",
        topic="clicks",
        tap=TAP,
        metric=METRIC,
        silence=silence,
        grace=second,
        standby=False,
        lease=second,
        store=MemoryStore(),
        last_seen=last_seen,
    )
    made: Witness = PROBES[name].make(watched)
    return made


class MetricRig:
    silence = timedelta(seconds=90)
    delay = 2 * SAMPLING + DELAYS[METRIC] + ASK_EVERY

    def __init__(self, server: MetricServer) -> None:
        self._server = server

    def probe(self, last_seen: datetime | None = None) -> Witness:
        return make("metric", self.silence, last_seen)

    def publish(self, at: datetime) -> None:
        self._server.publishes.append(at)

    def look(self, probe: Witness, now: datetime) -> Verdict:
        self._server.now = now
        return probe.check(now)

    def go_away(self) -> None:
        self._server.refuses = grpc.StatusCode.UNAVAILABLE


class TapRig:
    """A Pub/Sub that keeps one subscription's newest message, which nobody acknowledges."""

    silence = timedelta(seconds=5)
    delay = timedelta(0)

    def __init__(self) -> None:
        self._newest: datetime | None = None
        self._away = False
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        methods = {
            "Pull": (types.PullRequest, types.PullResponse, self._pull),
            "Seek": (types.SeekRequest, types.SeekResponse, lambda request: types.SeekResponse()),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._unless_away(answer), asked.deserialize, told.serialize)
            for name, (asked, told, answer) in methods.items()
        }
        handlers["ModifyAckDeadline"] = grpc.unary_unary_rpc_method_handler(
            self._unless_away(lambda request: Empty()),
            types.ModifyAckDeadlineRequest.deserialize,
            Empty.SerializeToString,
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", handlers),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def probe(self, last_seen: datetime | None = None) -> Witness:
        return make("tap", self.silence, last_seen)

    def publish(self, at: datetime) -> None:
        self._newest = at

    def look(self, probe: Witness, now: datetime) -> Verdict:
        return probe.check(now)

    def go_away(self) -> None:
        self._away = True

    def close(self) -> None:
        self._server.stop(None).wait()

    def _unless_away(self, answer: Any) -> Any:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            if self._away:
                context.abort(grpc.StatusCode.UNAVAILABLE, "away")
            return answer(request)

        return call

    def _pull(self, request: types.PullRequest) -> types.PullResponse:
        if self._newest is None:
            return types.PullResponse()
        message = types.PubsubMessage(data=b"x", publish_time=self._newest)
        return types.PullResponse(received_messages=[types.ReceivedMessage(ack_id="1", message=message)])


class TestTap(ProbeContract):
    name = "tap"

    @pytest.fixture
    def rig(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[TapRig]:
        made = TapRig()
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", made.address)
        yield made
        made.close()


class TestMetric(ProbeContract):
    name = "metric"

    @pytest.fixture
    def rig(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[MetricRig]:
        server = MetricServer("rejeu-test", "clicks")
        monkeypatch.setenv("MONITORING_EMULATOR_HOST", server.address)
        yield MetricRig(server)
        server.close()


def test_every_probe_that_knows_nothing_of_what_is_due_is_tried_here() -> None:
    tried = {kind.name for kind in ProbeContract.__subclasses__()}
    assert tried == {name for name in PROBES if not PROBES[name].knows_due}
