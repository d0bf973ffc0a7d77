"""What simulated sensors say: plausible air, a reading every few seconds, now and then a null or a pause."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from rejeu.replay.source.generators.iot_sensors import FIELDS, IotSensors

Day = list[dict[str, Any]]

EVERY = timedelta(seconds=10)


@pytest.fixture(scope="module")
def day() -> Day:
    tables = IotSensors(sensors=4, every=EVERY.total_seconds(), minutes=24 * 60).tables()
    return [row for table in tables for row in table.to_pylist()]


def of_sensors(rows: Day, field: str) -> dict[str, list[Any]]:
    found = defaultdict(list)
    for row in rows:
        found[row["sensor"]].append(row[field])
    return found


def test_each_sensor_is_read_as_often_as_asked_but_for_its_pauses(day: Day) -> None:
    times = of_sensors(day, "Timestamp")
    assert set(times) == {"sensor-1", "sensor-2", "sensor-3", "sensor-4"}
    for each in times.values():
        gaps = [later - earlier for earlier, later in pairwise(each)]
        pauses = [gap for gap in gaps if gap > timedelta(seconds=50)]
        steady = [gap for gap in gaps if gap not in pauses]
        assert 10 < len(pauses) < 40
        assert max(pauses) < timedelta(minutes=6)
        assert all(abs(gap - EVERY) <= timedelta(seconds=1) for gap in steady)
        assert len(set(steady)) > 1_000, "no two gaps are alike"


def test_a_field_is_null_now_and_then_and_never_all_of_them(day: Day) -> None:
    nulls = [sum(row[name] is None for name in FIELDS) for row in day]
    assert set(nulls) == {0, 1}
    assert 0.005 < sum(nulls) / len(nulls) < 0.02


def test_days_are_warmer_than_nights_and_warm_air_is_thin(day: Day) -> None:
    def mean(name: str, hour: int) -> float:
        return math.fsum(found := [row[name] for row in day if row["Timestamp"].hour == hour and row[name]]) / len(
            found
        )

    assert mean("Temp", 15) > mean("Temp", 3) + 8
    assert mean("Airtight", 15) < mean("Airtight", 3)
    assert all(-10 < row["Temp"] < 35 for row in day if row["Temp"] is not None)
    assert all(980 < row["AtmP"] < 1_020 for row in day if row["AtmP"] is not None)
    assert all(1_100 < row["Airtight"] < 1_350 for row in day if row["Airtight"] is not None)
    assert all(2 < row["H2OC"] < 30 for row in day if row["H2OC"] is not None)
