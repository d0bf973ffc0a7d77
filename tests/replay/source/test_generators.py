"""Simulators as a source: the same rows for the same options, and the rows look like the real ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from rejeu.errors import RequestError
from rejeu.replay.source.generated import open_generator
from rejeu.replay.source.generators.oracle_requests import COLUMNS, OracleRequests
from rejeu.timeline import Position

Read = Callable[..., list[tuple[int, str, bytes]]]

ORACLE = {"event_time": "block_timestamp_truncated", "key": ("oracle_request_id",)}


def test_options_alone_decide_the_rows(read: Read) -> None:
    ten = read(generator="oracle_requests:minutes=10,seed=4", **ORACLE)
    assert ten == read(generator="oracle_requests:seed=4,minutes=10", **ORACLE)
    assert ten != read(generator="oracle_requests:minutes=10,seed=5", **ORACLE)
    assert 400 < len(ten) < 900


def test_a_simulator_starts_anywhere_and_stops_at_until(read: Read) -> None:
    whole = read(generator="oracle_requests:minutes=30", **ORACLE)
    done = 700
    start = Position(whole[done][0], sum(row[0] == whole[done][0] for row in whole[:done]))
    until = "2021-05-01T00:20:00Z"
    rest = read(start, generator="oracle_requests:minutes=30", until=until, **ORACLE)
    assert rest == [row for row in whole[done:] if row[0] < 1_619_828_400_000_000]


@pytest.mark.slow
def test_oracle_requests_look_like_bands() -> None:
    rows = [json.loads(line) for line in OracleRequests(minutes=120).lines()]
    assert set(rows[0]) == {column.name for column in COLUMNS}
    scripts = Counter(row["request"]["oracle_script_id"] for row in rows)
    assert set(scripts) == {"1", "3", "4"}
    assert scripts["3"] > 0.7 * len(rows)
    answers = [
        (json.loads(row["decoded_result"]["calldata"]), json.loads(row["decoded_result"]["result"]))
        for row in rows
        if row["request"]["oracle_script_id"] == "3"
    ]
    unequal = sum(len(question["symbols"]) != len(answer["rates"]) for question, answer in answers)
    assert 0 < unequal < 0.05 * len(answers)
    assert {question["multiplier"] for question, _ in answers} == {1_000_000, 1_000_000_000}
    times = Counter(row["block_timestamp_truncated"] for row in rows)
    assert max(times.values()) > 1


def test_its_files_hold_the_rows_that_it_replays(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "oracle.ndjson"
    path.write_bytes(b"".join(OracleRequests(minutes=5).lines()))
    replayed = read(generator="oracle_requests:minutes=5", **ORACLE)
    assert [row[:2] for row in read(file=str(path), **ORACLE)] == [row[:2] for row in replayed]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "nope",
            "--generator is 'nope': it must be one of clickstream, iot_sensors, oracle_requests, site_access",
        ),
        ("oracle_requests:speed=2", "speed: Extra inputs are not permitted; options: start, minutes, seed, every"),
        ("oracle_requests:minutes=-1", "minutes: Input should be greater than 0"),
        ("oracle_requests:start=2021-05-01", "has no time zone"),
        ("iot_sensors:limit=0", "limit: Input should be greater than 0; options: start, minutes, seed, limit, sensors"),
        ("iot_sensors:sensors=0", "sensors: Input should be greater than 0"),
        ("site_access:every=0", "every: Input should be greater than or equal to 0.001"),
        ("clickstream:every=1e9", "every: Input should be less than or equal to 3600"),
    ],
)
def test_a_wrong_option_is_told_with_those_there_are(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_generator(text)
