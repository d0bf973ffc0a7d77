"""A stream whose source is an API: what its spec must say, and what its replay is asked."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rejeu.errors import RequestError
from rejeu.jobs.build import replay_request
from rejeu.jobs.request import ReplayRequest
from rejeu.reconcile import Span, reconcile_request
from rejeu.spec.files import read_spec
from rejeu.spec.model import StreamSpec
from rejeu.target import Target
from rejeu.timeline import parse_instant
from tests.paths import STREAMS

LOCAL = Target(project="rejeu-test", bucket="raw", open_data="http://127.0.0.1:8080", speed=60)
NOON = parse_instant("2026-11-20T12:00:00Z")


@pytest.fixture
def spec() -> StreamSpec:
    return read_spec(STREAMS / "bike_stations.yaml")


def test_the_target_says_where_the_api_is_and_where_its_answers_are_kept(spec: StreamSpec) -> None:
    request = replay_request(spec, LOCAL, None, None)
    assert request.api == "http://127.0.0.1:8080/api/records/1.0/search/?dataset=vlille-realtime&rows=-1"
    assert request.raw == "gs://raw/bike_stations/dt={partition}"
    assert (request.every_seconds, request.speed, request.event_time) == (60.0, 60.0, "observed_at")
    cloud = replay_request(spec, Target(project="rejeu-test", bucket="raw"), None, None)
    assert str(cloud.api).startswith("https://opendata.lillemetropole.fr/api/")


def test_the_batch_loads_what_the_replay_keeps(spec: StreamSpec) -> None:
    assert spec.batch is not None
    assert spec.replay is not None
    assert spec.batch.files == f"{spec.replay.source.raw}/*.json"


def test_who_compares_reads_the_same_answers(spec: StreamSpec) -> None:
    compared = reconcile_request(spec, LOCAL, Span(from_time=None, until_time=NOON), "report.json").reading
    replayed = replay_request(spec, LOCAL, None, None)
    assert (compared.api, compared.raw, compared.key) == (replayed.api, replayed.raw, replayed.key)


def test_its_request_survives_as_arguments(spec: StreamSpec) -> None:
    request = replay_request(spec, LOCAL, NOON, None)
    assert ReplayRequest.from_argv(request.to_argv()) == request


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"replay": {"source": {"api": "http://a"}}}, "raw is None: an API's answers need a place, with {partition}"),
        ({"replay": {"source": {"api": "http://a", "raw": "gs://b/raw"}}}, "raw is 'gs://b/raw': an API's answers"),
        ({"event_time": "record_timestamp"}, "event_time is 'record_timestamp' .* must be observed_at"),
        ({"live": {"topic": "bikes", "table": "d.t"}}, "live.pipeline passthrough: .* a pipeline with columns of its"),
    ],
)
def test_a_spec_that_cannot_work_is_refused(spec: StreamSpec, changes: dict[str, Any], reason: str) -> None:
    given = spec.model_dump(exclude_unset=True) | changes
    with pytest.raises(ValidationError, match=reason):
        StreamSpec.model_validate(given)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"raw": None}, "--raw is None: an API's answers need a place, with {partition} for the day"),
        ({"raw": "raw"}, "--raw is raw: an API's answers need a place"),
        ({"event_time": "record_timestamp"}, "--event-time is record_timestamp: with --api it must be observed_at"),
        ({"table": "d.t"}, "--table and --api given"),
        ({"every_seconds": 0.5}, "--every-seconds: it is 0.5"),
    ],
)
def test_a_request_that_cannot_work_is_refused(spec: StreamSpec, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        ReplayRequest.of(**replay_request(spec, LOCAL, None, None).model_dump() | changes)
