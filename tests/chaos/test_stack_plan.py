"""Rounds follow from their seed, have everybody in them, and their rows fall due as they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rejeu.spec.files import read_spec
from rejeu.timeline import Timeline
from tests.chaos.stack.feeds import EXTRAS, FEEDS, GAP_SECONDS, HOURS, START_US, STEP_SECONDS, Feed, due_seconds
from tests.chaos.stack.plan import PARTS, PAUSE_SECONDS, WAVES, Mishap, Victim, plan_calm, plan_rounds

ROUNDS = plan_rounds(1, 20)
SINGLE, PAIR, GAPS = FEEDS


def test_a_seed_always_has_the_same_rounds() -> None:
    assert plan_rounds(1, 20) == ROUNDS
    assert plan_rounds(2, 20) != ROUNDS
    assert [each.number for each in ROUNDS] == list(range(len(ROUNDS)))


def test_the_replay_dies_alone_as_often_as_asked_for() -> None:
    for kills in (3, 20, 30):
        assert sum(each.relaunches_alone for each in plan_rounds(1, kills)) == kills


def test_every_victim_dies_alone_and_every_part_together_with_the_replay() -> None:
    killed = {frozenset(each.victims) for each in ROUNDS}
    assert killed >= {frozenset({victim}) for victim in Victim}
    assert killed >= {frozenset({Victim.REPLAY, other}) for other in (*PARTS, Victim.STREAM_JOB)}
    assert frozenset({Victim.HOLDER, Victim.STANDBY}) in killed


def test_few_kills_make_few_rounds() -> None:
    assert 3 < len(plan_rounds(1, 3)) < len(ROUNDS) / 4


def test_the_calm_has_pauses_of_the_broker_and_one_kill_of_the_triggerer_one_after_the_other() -> None:
    planned = plan_calm(1, 900)
    assert [each.seconds is None for each in planned].count(True) == 1
    pauses = [each.seconds for each in planned if each.seconds is not None]
    assert len(pauses) == 4
    assert all(PAUSE_SECONDS[0] <= seconds <= PAUSE_SECONDS[1] for seconds in pauses)
    times = [each.at for each in planned]
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 900 - 60, "the last one has time to show what comes of it"


def test_every_mishap_happens_once_and_no_two_at_a_time_to_one_stream() -> None:
    assert sorted(each for wave in WAVES for each in wave) == sorted(Mishap)
    assert {each.stream for each in Mishap} <= {feed.name for feed in (*FEEDS, *EXTRAS)}
    for wave in WAVES:
        assert len({each.stream for each in wave}) == len(wave)


@pytest.mark.parametrize("feed", [*FEEDS, *EXTRAS], ids=lambda feed: feed.name)
def test_a_feeds_spec_is_one_and_its_file_has_its_rows(feed: Feed, tmp_path: Path) -> None:
    event_us = feed.write(1, tmp_path, tmp_path)
    spec = read_spec(tmp_path / f"{feed.name}.yaml")
    assert spec.replay is not None
    assert (spec.stream, spec.replay.standby, spec.watchdog.silence.total_seconds()) == (
        feed.name,
        feed.standby,
        feed.silence,
    )
    assert spec.watchdog.probe == feed.probes
    assert (spec.replay.source.table or "") == feed.table
    rows = pq.read_table(feed.file(tmp_path))
    assert rows["number"].to_pylist() == list(range(len(event_us)))
    assert rows["at"].cast("int64").to_pylist() == event_us.tolist()


@pytest.mark.parametrize("feed", [SINGLE, PAIR], ids=lambda feed: feed.name)
def test_rows_are_due_every_few_hundred_milliseconds_for_hours(feed: Feed) -> None:
    event_us = feed.event_us(1)
    steps = np.diff(event_us) / 1e6
    assert STEP_SECONDS[0] <= steps.min() < steps.max() <= STEP_SECONDS[1] + 1e-6
    assert (event_us[-1] - START_US) / 1e6 == pytest.approx(HOURS * 3_600, abs=1)


def test_the_gaps_are_as_long_as_ninety_seconds_and_the_bursts_between_them_dense() -> None:
    steps = np.diff(GAPS.event_us(1)) / 1e6
    gaps = steps[steps > STEP_SECONDS[1] + 1e-6]
    assert 75 < gaps.max() <= sum((GAP_SECONDS[1], STEP_SECONDS[1]))
    assert len(gaps) > 100
    assert np.median(steps) < STEP_SECONDS[1]


def test_rows_are_due_as_the_replays_timeline_says() -> None:
    timeline = Timeline(event_us=START_US, wall_us=1_700_000_000_000_000, speed=2.0)
    event_us = START_US + np.array([0, 3_000_000])
    assert due_seconds(event_us, timeline).tolist() == [1_700_000_000.0, 1_700_000_001.5]
