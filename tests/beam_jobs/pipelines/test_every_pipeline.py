"""Every pipeline of Rejeu keeps the rules of `rejeu.testing.pipelines`."""

from __future__ import annotations

import json

import pytest

from rejeu.spec.pipelines import PIPELINES
from rejeu.testing.pipelines import PipelineContract
from tests.beam_jobs.builders import make_request

pytestmark = pytest.mark.slow

READING = b'{"sensor": "s-1", "Timestamp": "2026-11-20T12:00:00Z", "Temp": 12.5, "AtmP": 1001.2}'
STATION = {
    "observed_at": "2026-11-20T12:00:00Z",
    "recordid": "r1",
    "record_timestamp": "2026-11-20T11:59:00Z",
    "fields": {"libelle": 7, "nom": "Gare", "nbvelosdispo": 3, "nbplacesdispo": 9, "localisation": [50.6, 3.1]},
}


class TestPassthrough(PipelineContract):
    name = "passthrough"
    messages = (b'{"at": "2026-11-20T12:00:00Z", "n": 1}',)
    wrong = (b"[]", b"{")


class TestRates(PipelineContract):
    name = "rates"
    messages = (json.dumps(make_request()).encode(),)
    wrong = (b"{}", b"no JSON")


class TestClicks(PipelineContract):
    name = "clicks"
    messages = (b'{"user_pseudo_id": "ann", "event_timestamp": 1533279652346001}',)
    wrong = (b'{"user_pseudo_id": "ann"}',)


class TestSensorMeans(PipelineContract):
    name = "sensor_means"
    messages = (READING, READING.replace(b"12.5", b"13.5"))
    wrong = (b'{"sensor": "s-1", "Timestamp": "yesterday"}',)


class TestOccupancy(PipelineContract):
    name = "occupancy"
    messages = (b'{"eventTime": "2026-11-20T12:00:00Z", "site": "s", "service": "x", "device": "d", "event": "1"}',)
    wrong = (b'{"eventTime": "2026-11-20T12:00:00Z", "site": "s", "service": "x", "device": "d", "event": 2}',)


class TestStations(PipelineContract):
    name = "stations"
    messages = (json.dumps(STATION).encode(),)
    wrong = (b'{"observed_at": "2026-11-20T12:00:00Z"}',)


def test_every_pipeline_is_tried_here() -> None:
    tried = {kind.name for kind in PipelineContract.__subclasses__() if kind.__module__ == __name__}
    assert tried == set(PIPELINES)
