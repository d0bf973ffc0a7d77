"""The metric probe against a Cloud Monitoring that samples and delays: how late it is, and that it is never early."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import InvalidArgument
from google.cloud.monitoring_v3.types import Aggregation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rejeu.errors import RejeuError
from rejeu.gcp import clients
from rejeu.ports import Reason, Signal, Verdict
from rejeu.timeline import parse_instant
from rejeu.watchdog.probes.metric import ASK_EVERY, DELAYS, SAMPLING, MetricProbe
from tests.fakes.metric_server import MetricServer

BEGIN = parse_instant("2026-11-20T12:00:00Z")
SECOND = timedelta(seconds=1)
SILENCE = timedelta(seconds=90)
DEFAULT = "pubsub.googleapis.com/topic/send_request_latencies"
POLL = timedelta(seconds=5)
Aligner = Aggregation.Aligner

every_metric = pytest.mark.parametrize("metric", DELAYS, ids=lambda metric: metric.rpartition("/")[2])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MetricServer]:
    server = MetricServer("rejeu-test", "clicks")
    monkeypatch.setenv("MONITORING_EMULATOR_HOST", server.address)
    yield server
    server.close()


def _probe(metric: str = DEFAULT, silence: timedelta = SILENCE) -> MetricProbe:
    return MetricProbe("rejeu-test", "clicks", silence, metric)


def _check(server: MetricServer, probe: MetricProbe, now: datetime) -> Verdict:
    server.now = now
    return probe.check(now)


def _every(step: timedelta, start: datetime, end: datetime) -> list[datetime]:
    return [start + n * step for n in range(int((end - start) / step) + 1)]


def _detect(server: MetricServer, probe: MetricProbe, start: datetime, end: datetime) -> Verdict | None:
    """The first SILENT of a probe that is asked every POLL, if any comes."""
    for now in _every(POLL, start, end):
        verdict = _check(server, probe, now)
        if verdict.signal is Signal.SILENT:
            return verdict
    return None


@every_metric
def test_silence_is_detected_within_sampling_delay_and_silence(server: MetricServer, metric: str) -> None:
    died = BEGIN + 5 * SAMPLING  # at the end of a sample; the sample's rest comes on top otherwise
    server.publishes = _every(SECOND, BEGIN, died)
    known = died + SAMPLING + DELAYS[metric] + SILENCE
    verdict = _detect(server, _probe(metric), BEGIN, known + ASK_EVERY)
    assert verdict is not None
    assert known <= server.now
    assert (verdict.reason, verdict.probe) == (Reason.NOTHING_PUBLISHED, "metric")
    assert (verdict.last_seen, verdict.lost_at) == (died - 2 * SAMPLING, died)


@every_metric
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gaps=st.lists(st.integers(1, int(SILENCE.total_seconds()) - 1), min_size=1, max_size=8),
    start=st.integers(0, 59),
    phase=st.integers(0, 59),
    zeros=st.booleans(),
)
def test_a_gap_shorter_than_the_silence_is_never_reported_and_a_silence_always(
    server: MetricServer, metric: str, gaps: list[int], start: int, phase: int, zeros: bool
) -> None:
    server.publishes = [BEGIN + start * SECOND + sum(gaps[:n]) * SECOND for n in range(len(gaps) + 1)]
    server.phase, server.zeros = phase * SECOND, zeros
    died = server.publishes[-1]
    limit = SAMPLING + DELAYS[metric] + SILENCE
    verdict = _detect(server, _probe(metric), BEGIN, died + 2 * SAMPLING + limit + ASK_EVERY)
    assert verdict is not None
    assert verdict.last_seen is not None
    assert verdict.lost_at is not None
    assert verdict.last_seen <= died <= verdict.lost_at < died + 2 * SAMPLING
    assert verdict.lost_at + limit <= server.now <= verdict.lost_at + limit + ASK_EVERY + POLL


def test_a_verdict_says_how_old_its_knowledge_is(server: MetricServer) -> None:
    server.publishes = [BEGIN]
    probe = _probe()
    now = BEGIN + timedelta(seconds=183)
    assert _check(server, probe, now).detail.endswith("of clicks that counts a publish ends 183 s ago")
    later = _check(server, probe, now + 5 * SECOND)
    assert "188 s ago" in later.detail
    assert later.look_again == BEGIN + SAMPLING + DELAYS[DEFAULT] + SILENCE


def test_cloud_monitoring_is_asked_four_times_a_minute_whatever_happens(server: MetricServer) -> None:
    probe = _probe()
    for now in _every(SECOND, BEGIN, BEGIN + 29 * SECOND):
        _check(server, probe, now)
    server.refuses = grpc.StatusCode.UNAVAILABLE
    for now in _every(SECOND, BEGIN + 30 * SECOND, BEGIN + 59 * SECOND):
        _check(server, probe, now)
    assert len(server.asked) == 4


def test_a_new_probe_knows_of_a_silence_that_began_before_it(server: MetricServer) -> None:
    server.publishes = [BEGIN]
    verdict = _check(server, _probe(), BEGIN + timedelta(minutes=9))
    assert (verdict.signal, verdict.lost_at) == (Signal.SILENT, BEGIN)


def test_a_new_probe_counts_from_its_first_check_where_nothing_was_published(server: MetricServer) -> None:
    probe, limit = _probe(), SAMPLING + DELAYS[DEFAULT] + SILENCE
    assert _check(server, probe, BEGIN).signal is Signal.UNKNOWN
    assert _check(server, probe, BEGIN + limit - SECOND).signal is Signal.UNKNOWN
    verdict = _check(server, probe, BEGIN + limit + ASK_EVERY)
    assert (verdict.signal, verdict.last_seen, verdict.lost_at) == (Signal.SILENT, None, BEGIN)


def test_what_is_excused_is_no_silence(server: MetricServer) -> None:
    server.publishes = [BEGIN]
    probe = _probe()
    excused = BEGIN + timedelta(minutes=9)
    probe.excuse(excused)
    assert _check(server, probe, excused).signal is Signal.UNKNOWN
    assert _check(server, probe, excused + SAMPLING + DELAYS[DEFAULT] + SILENCE).signal is Signal.SILENT


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_service_that_does_not_answer_is_not_silence(server: MetricServer, status: grpc.StatusCode) -> None:
    server.publishes = _every(SECOND, BEGIN, BEGIN + timedelta(hours=1))
    probe = _probe()
    assert _check(server, probe, BEGIN + timedelta(minutes=30)).signal is Signal.FLOWING
    server.refuses = status
    soon = _check(server, probe, BEGIN + timedelta(minutes=31))
    late = _check(server, probe, BEGIN + timedelta(minutes=50))
    assert (soon.signal, late.signal) == (Signal.FLOWING, Signal.UNKNOWN)
    assert "does not answer" in late.detail
    server.refuses = None
    assert _check(server, probe, BEGIN + timedelta(minutes=51)).signal is Signal.FLOWING


@every_metric
def test_a_request_that_pubsub_refused_is_no_signal(server: MetricServer, metric: str) -> None:
    server.refused = _every(SECOND, BEGIN, BEGIN + timedelta(minutes=9))
    assert _check(server, _probe(metric), BEGIN + timedelta(minutes=9)).last_seen is None


def test_another_topic_is_not_looked_at(server: MetricServer) -> None:
    server.topic = "rates"
    server.publishes = [BEGIN]
    assert _check(server, _probe(), BEGIN + timedelta(minutes=4)).last_seen is None


def test_a_denied_probe_says_what_to_grant(server: MetricServer) -> None:
    server.refuses = grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(RejeuError, match=r"of clicks cannot be read: 403 .* grant roles/monitoring\.viewer"):
        _check(server, _probe(), BEGIN)


def test_a_metric_that_counts_no_publishes_is_refused() -> None:
    with pytest.raises(RejeuError, match=r"topic/byte_cost.* use .*topic/send_request_latencies"):
        _probe("pubsub.googleapis.com/topic/byte_cost")


WRONG: dict[str, dict[str, Any]] = {
    "no metric": {"filter": 'resource.type = "pubsub_topic"'},
    "no filter's syntax": {"filter": f'metric.type == "{DEFAULT}"'},
    "another resource": {"filter": f'metric.type = "{DEFAULT}" AND resource.type = "pubsub_subscription"'},
    "a label that the metric lacks": {"filter": f'metric.type = "{DEFAULT}" AND metric.labels.color = "red"'},
    "an interval that ends before it starts": {"interval": {"start_time": BEGIN, "end_time": BEGIN - SECOND}},
    "half a minute": {"aggregation": {"alignment_period": SAMPLING / 2, "per_series_aligner": Aligner.ALIGN_SUM}},
    "the mean of distributions": {
        "aggregation": {"alignment_period": SAMPLING, "per_series_aligner": Aligner.ALIGN_MEAN}
    },
    "an order": {"order_by": "time"},
}


@pytest.mark.parametrize("case", WRONG)
def test_the_fake_refuses_what_cloud_monitoring_refuses(server: MetricServer, case: str) -> None:
    right = {
        "name": "projects/rejeu-test",
        "filter": f'metric.type = "{DEFAULT}"',
        "interval": {"start_time": BEGIN - SAMPLING, "end_time": BEGIN},
        "aggregation": {"alignment_period": SAMPLING, "per_series_aligner": Aligner.ALIGN_SUM},
    }
    assert list(clients.metric_client().list_time_series(request=right)) == []
    with pytest.raises(InvalidArgument):
        clients.metric_client().list_time_series(request=right | WRONG[case])
