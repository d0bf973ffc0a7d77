"""Rounds follow from their seed, and some of them have it all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from rejeu.jobs.request import ReplayRequest
from rejeu.replay.reading import read_chunks
from rejeu.state import LOCAL
from tests.chaos.plan import MAX_ORDERED_ROWS, MAX_ROWS, RATES, STEPS, Fault, plan
from tests.chaos.rows import STREAM, write_rows
from tests.chaos.watcher import AIRFLOW_SECONDS, SILENCE

BROKERS = ["one", "other"]
PLANS = [plan(1, number, BROKERS) for number in range(30)]


def test_a_round_is_the_same_whenever_it_is_played() -> None:
    assert PLANS[17] == plan(1, 17, BROKERS)
    assert PLANS[17] != replace(plan(2, 17, BROKERS), seed=1)


def test_thirty_rounds_have_every_fault_on_every_broker_at_all_kinds_of_rates() -> None:
    assert {(each.fault, each.broker) for each in PLANS} == {(fault, broker) for fault in Fault for broker in BROKERS}
    assert {each.ordered for each in PLANS} == {True, False}
    assert {each.suffix for each in PLANS} == {".parquet", ".ndjson"}
    rates = [each.rate for each in PLANS if each.rate is not None]
    assert len(rates) < len(PLANS), "some have no pace"
    assert RATES[0] <= min(rates) < max(rates) / 20 < RATES[1]
    assert {each.rows for each in PLANS if each.rate is None} == {MAX_ROWS, MAX_ORDERED_ROWS}


def test_clocks_are_stepped_by_seconds_and_by_an_hour_and_a_store_stays_away_for_longer_than_a_watchdog_waits() -> None:
    steps = [each.step for each in PLANS]
    assert STEPS[0] <= min(steps) < 60 < 600 < max(steps) <= STEPS[1]
    assert all(each.outage > SILENCE.total_seconds() + LOCAL.lease_seconds + AIRFLOW_SECONDS for each in PLANS)


def test_the_ids_and_places_of_the_rows_are_those_that_the_replay_gives_them(tmp_path: Path) -> None:
    for suffix in (".parquet", ".ndjson"):
        file = tmp_path / f"rows{suffix}"
        rows = write_rows(replace(PLANS[0], rate=20_000, rows=500, suffix=suffix), file)
        request = ReplayRequest.of(
            topic="projects/p/topics/t", stream=STREAM, file=str(file), event_time="at", key=("symbol", "n")
        )
        chunks = list(read_chunks(request, None))
        row_ids = [row_id for chunk in chunks for row_id in chunk.row_ids.to_pylist()]
        assert row_ids == sorted(rows, key=lambda row_id: rows[row_id].place)
        bodies = [json.loads(body) for chunk in chunks for body in chunk.data.to_pylist()]
        assert [(each["n"], each["symbol"]) for each in bodies] == [(rows[i].n, rows[i].symbol) for i in row_ids]
