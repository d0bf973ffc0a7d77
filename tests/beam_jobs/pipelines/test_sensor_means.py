"""Readings become means of each field over those that have it, or a reason."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from apache_beam import Create
from apache_beam.testing.util import assert_that

from beam_jobs.pipelines.sensor_means.transform import FIELDS, make_decoder, means, transform
from beam_jobs.transforms.records import Message, Row
from rejeu.jobs.request import PipelineRequest
from rejeu.spec.pipelines import PIPELINES
from tests.beam_jobs.builders import pipeline_here


def reading(**changes: Any) -> dict[str, Any]:
    fields = {
        "sensor": "roof",
        "Timestamp": "2021-05-01T00:00:03.5Z",
        "Airtight": 1.0,
        "AtmP": 2,
        "H2OC": 3.5,
        "Temp": 4.25,
    }
    return fields | changes


def decode(body: dict[str, Any] | bytes) -> Any:
    return make_decoder()(body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize("instant", ["2021-05-01T00:00:03.5Z", "2021-05-01 00:00:03.500000 UTC"])
def test_a_reading_is_its_sensors_at_its_time(instant: str) -> None:
    assert decode(reading(Timestamp=instant)) == (("roof",), 1_619_827_203_500_000, (1.0, 2.0, 3.5, 4.25))


def test_what_a_sensor_did_not_measure_is_null_or_not_there() -> None:
    assert decode({"sensor": "roof", "Timestamp": "2021-05-01T00:00:03.5Z", "Temp": None}).value == (None,) * 4


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (reading(sensor=None), r"\$\.sensor"),
        ({"Timestamp": "2021-05-01T00:00:00Z"}, "`sensor`"),
        ({"sensor": "roof"}, "`Timestamp`"),
        (reading(Timestamp=1_619_827_203), r"\$\.Timestamp"),
        (reading(Timestamp="noon"), "Timestamp: 'noon' is not a time"),
        (reading(Temp="4.25"), r"\$\.Temp"),
        (reading(Temp=True), r"\$\.Temp"),
        (reading(Temp=1e308), r"<= 1e.?300 - at `\$\.Temp`"),
        (reading(Temp=float("nan")), "JSON is malformed"),
        (b'{"sensor": "roof", "Timestamp": "2021-05-01T00:00:00Z", "Temp": 1e999}', "out of range"),
    ],
)
def test_what_is_wrong_is_refused_with_a_reason_that_names_the_field(body: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(body)


def test_a_mean_is_over_the_readings_that_have_the_field() -> None:
    assert means([(1.0, None, 0.0, 1.0), (None, None, 0.0, 2.0), (2.0, None, 1.0, 6.0)]) == {
        "Airtight": 1.5,
        "AtmP": None,
        "H2OC": 1 / 3,
        "Temp": 3.0,
    }


def test_the_order_of_readings_changes_no_digit_of_a_mean() -> None:
    dice = random.Random(7)
    readings = [tuple(dice.uniform(-1, 1) * 10 ** dice.randrange(20) for _ in FIELDS) for _ in range(999)]
    wanted = means(readings)
    for _ in range(9):
        dice.shuffle(readings)
        assert means(readings) == wanted


def test_a_window_is_15_seconds_of_a_sensor_with_the_columns_that_the_pipeline_promises() -> None:
    bodies = [reading(Temp=1), reading(Temp=2, Timestamp="2021-05-01T00:00:14.999999Z"), reading(sensor="cellar")]
    messages = [Message(str(number), json.dumps(body).encode(), {}) for number, body in enumerate(bodies)]
    with pipeline_here() as pipeline:
        rows, _ = (
            pipeline | Create(messages) | transform(PipelineRequest(stream="iot_sensors", pipeline="sensor_means"))
        )
        assert_that(rows, _check)


def _check(rows: list[Row]) -> None:
    columns = PIPELINES["sensor_means"].columns
    assert columns is not None
    assert all(set(row.values) == {column.name for column in columns} for row in rows)
    cellar, roof = sorted((row.values for row in rows), key=lambda values: str(values["sensor"]))
    assert (cellar["sensor"], cellar["readings"], cellar["Temp"]) == ("cellar", 1, 4.25)
    assert (roof["sensor"], roof["readings"], roof["Temp"]) == ("roof", 2, 1.5)
    assert (roof["Timestamp"], roof["window_end"]) == ("2021-05-01T00:00:00.000000Z", "2021-05-01T00:00:15.000000Z")
