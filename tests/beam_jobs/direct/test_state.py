"""A window in which nothing happens is set aside; when a record comes that may be its, it is as if it had not been."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from apache_beam.transforms.core import Windowing
from apache_beam.transforms.trigger import (
    AccumulationMode,
    AfterProcessingTime,
    AfterWatermark,
    MergeableStateAdapter,
    create_trigger_driver,
)
from apache_beam.transforms.window import FixedWindows, IntervalWindow, Sessions, WindowFn
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_jobs.direct.journal import Journal
from beam_jobs.direct.state import KeyState
from beam_jobs.direct.windows import EventClock, LocalWindows
from beam_jobs.pipelines.clicks.transform import transform
from rejeu.jobs.request import PipelineRequest

SECONDS = 10
STEPS = 400


class AllInSight(KeyState):
    """As Beam's own is: nothing is ever set aside."""

    def set_aside(self) -> None:
        pass


class Clock:
    """The wall clock."""

    now = 0.0

    def time(self) -> float:
        return self.now


class Key:
    """What Beam makes of one key's records with a state, without the rest of the runner."""

    def __init__(self, state: KeyState, cut: WindowFn) -> None:
        early = AfterProcessingTime(1)
        trigger = AfterWatermark(early=early, late=early)
        windowing = Windowing(cut, trigger, AccumulationMode.ACCUMULATING, allowed_lateness=10**9)
        self.state, self.watermark, self._cut, self._clock = state, MIN_TIMESTAMP, cut, Clock()
        self._driver = create_trigger_driver(windowing, clock=self._clock)
        self.panes: list[Any] = []

    def add(self, records: list[tuple[int, str]]) -> None:
        """Records of some seconds, all in one bundle."""
        values = [
            WindowedValue(name, at, self._cut.assign(WindowFn.AssignContext(Timestamp(at)))) for at, name in records
        ]
        self._note(self._driver.process_elements(self.state, values, self.watermark, self.watermark))

    def pass_time(self, seconds: float, watermark: int) -> None:
        """The clock goes on, event time comes as far as this, and what is due by then is done."""
        self._clock.now += seconds
        self.watermark = max(self.watermark, Timestamp(watermark))
        due, _ = self.state.get_timers(watermark=self.watermark, processing_time=self._clock.now)
        for window_id, (name, domain, at, tag) in sorted(due, key=lambda timer: timer[1][2]):
            self.state.clear_timer(window_id, name, domain, dynamic_timer_tag=tag)
            self._note(self._driver.process_timer(window_id, name, domain, at, self.state, self.watermark))

    def seen(self) -> list[IntervalWindow]:
        """The windows that Beam goes through."""
        return MergeableStateAdapter(self.state).known_windows()

    def _note(self, panes: Iterator[Any]) -> None:
        self.panes += [(pane.windows, pane.pane_info, sorted(pane.value)) for pane in panes]


@pytest.fixture(autouse=True)
def installed(tmp_path: Path) -> Iterator[None]:
    """Windows go by event time, and are set aside, as in a job."""
    request = PipelineRequest(stream="clicks", pipeline="clicks")
    with (
        closing(Journal(tmp_path / "journal.db")) as journal,
        LocalWindows(transform(request), journal, EventClock()).installed(),
    ):
        yield


@pytest.mark.parametrize("cut", [FixedWindows(SECONDS), Sessions(SECONDS)], ids=lambda cut: type(cut).__name__)
@pytest.mark.parametrize("seed", range(5))
def test_whatever_comes_whenever_the_panes_are_those_of_a_state_that_sets_nothing_aside(
    cut: WindowFn, seed: int
) -> None:
    dice = random.Random(seed)
    ours, beams = Key(KeyState(), cut), Key(AllInSight(), cut)
    for step in range(STEPS):
        reach = dice.choice([5, 5, 5, 50, 2_000])
        records = [(max(0, step * 3 - dice.randrange(reach)), f"{step}/{n}") for n in range(dice.randrange(4))]
        seconds, watermark = dice.choice([0, 0.5, 2]), step * 3 - dice.randrange(60)
        for key in (ours, beams):
            key.add(records)
            key.pass_time(seconds, watermark)
    assert ours.panes == beams.panes
    assert len(ours.panes) > STEPS / 10
    assert len(ours.seen()) < len(beams.seen()) / 2


def test_of_windows_that_are_written_beam_sees_the_newest_alone() -> None:
    key = Key(KeyState(), FixedWindows(SECONDS))
    for second in range(0, 1_000, SECONDS):
        key.add([(second, "a")])
        key.pass_time(2, second + SECONDS)
    assert key.seen() == [IntervalWindow(990, 1_000)]
    assert len(key.state.state) == 1


def test_a_window_that_waits_for_something_stays_in_sight() -> None:
    key = Key(KeyState(), FixedWindows(SECONDS))
    key.add([(0, "a"), (500, "b")])
    key.pass_time(2, 0)
    assert key.seen() == [IntervalWindow(0, 10), IntervalWindow(500, 510)]


def test_a_record_between_two_sessions_that_were_set_aside_makes_them_one() -> None:
    key = Key(KeyState(), Sessions(SECONDS))
    key.add([(0, "a"), (15, "b"), (100, "c")])
    key.pass_time(2, 200)
    assert key.seen() == [IntervalWindow(100, 110)]
    key.add([(8, "d")])
    key.pass_time(2, 200)
    (window,), _, records = key.panes[-1]
    assert (window, records) == (IntervalWindow(0, 25), ["a", "b", "d"])


def test_a_timer_that_beam_calls_for_twice_does_nothing_the_second_time() -> None:
    key = Key(KeyState(), FixedWindows(SECONDS))
    key.add([(0, "a"), (500, "b")])
    [[window_id, (name, domain, at, _)], *_] = key.state.get_timers(watermark=Timestamp(20), processing_time=0.0)[0]
    key.pass_time(2, 20)
    again = key._driver.process_timer(window_id, name, domain, at, key.state, key.watermark)
    assert list(again) == []
