"""What the tap makes of Pub/Sub's refusals, which no emulator gives; the rest is in tests/emulated/test_tap.py."""

from collections.abc import Iterator
from concurrent import futures
from datetime import timedelta

import grpc
import pytest
from google.pubsub_v1.types import PullRequest, PullResponse, SeekRequest, SeekResponse

from rejeu.errors import RejeuError
from rejeu.ports import Signal
from rejeu.timeline import parse_instant
from rejeu.watchdog.probes.tap import TapProbe

NOW = parse_instant("2026-11-20T12:00:00Z")
SILENCE = timedelta(seconds=5)
TAP = "projects/rejeu-test/subscriptions/clicks-tap"
Code = grpc.StatusCode


class _PubSub:
    """Answers with the statuses that it is told."""

    def __init__(self) -> None:
        self.pull, self.seek = Code.DEADLINE_EXCEEDED, Code.OK
        self.sought: list[SeekRequest] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        handlers = {
            "Pull": grpc.unary_unary_rpc_method_handler(self._pull, PullRequest.deserialize, PullResponse.serialize),
            "Seek": grpc.unary_unary_rpc_method_handler(self._seek, SeekRequest.deserialize, SeekResponse.serialize),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", handlers),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()

    def _pull(self, request: PullRequest, context: grpc.ServicerContext) -> PullResponse:
        if self.pull is not Code.OK:
            context.abort(self.pull, "no pull")
        return PullResponse()

    def _seek(self, request: SeekRequest, context: grpc.ServicerContext) -> SeekResponse:
        self.sought.append(request)
        if self.seek is not Code.OK:
            context.abort(self.seek, "no seek")
        return SeekResponse()


@pytest.fixture
def pubsub(monkeypatch: pytest.MonkeyPatch) -> Iterator[_PubSub]:
    server = _PubSub()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
    yield server
    server.close()


@pytest.fixture
def probe(pubsub: _PubSub) -> TapProbe:
    return TapProbe(TAP, SILENCE, last_seen=NOW - SILENCE)


@pytest.mark.parametrize("status", [Code.OK, Code.DEADLINE_EXCEEDED])
def test_a_pull_that_brings_nothing_is_silence_where_pubsub_is_there(
    pubsub: _PubSub, probe: TapProbe, status: grpc.StatusCode
) -> None:
    pubsub.pull = status
    assert probe.check(NOW).signal is Signal.SILENT


def test_asking_whether_pubsub_is_there_drops_nothing_that_is_news(pubsub: _PubSub, probe: TapProbe) -> None:
    probe.check(NOW)
    assert [each.time for each in pubsub.sought] == [NOW - SILENCE]


def test_a_pull_that_brings_nothing_is_not_silence_where_nobody_is_there(pubsub: _PubSub, probe: TapProbe) -> None:
    pubsub.seek = Code.DEADLINE_EXCEEDED
    assert probe.check(NOW).signal is Signal.UNKNOWN


@pytest.mark.parametrize("status", [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.INTERNAL])
def test_a_refusal_that_passes_is_not_silence(pubsub: _PubSub, probe: TapProbe, status: grpc.StatusCode) -> None:
    pubsub.pull = status
    verdict = probe.check(NOW)
    assert verdict.signal is Signal.UNKNOWN
    assert f"{TAP} does not answer" in verdict.detail
    pubsub.pull = Code.OK
    assert probe.check(NOW).signal is Signal.SILENT


def test_a_tap_that_may_not_be_read_says_what_to_grant(pubsub: _PubSub, probe: TapProbe) -> None:
    pubsub.pull = Code.PERMISSION_DENIED
    with pytest.raises(RejeuError, match=rf"{TAP} cannot be read: 403 no pull; grant roles/pubsub\.subscriber"):
        probe.check(NOW)
