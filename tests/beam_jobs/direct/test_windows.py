"""On the DirectRunner, windows go by event time, and every message is written down before a window has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from google.pubsub_v1 import PubsubMessage

from beam_jobs.direct.journal import Journal
from beam_jobs.direct.pulls import LocalPulls
from beam_jobs.direct.windows import IDLE_SECONDS, EventClock, LocalWindows, RawMessage
from beam_jobs.pipelines.clicks.transform import transform
from beam_jobs.transforms.records import Row, from_pubsub
from rejeu.jobs.request import PipelineRequest
from tests.beam_jobs.builders import wait_for
from tests.fakes.subscriber import SUBSCRIPTION, FakeClock, FakeSubscriber

SECOND = 1_000_000
HISTORY = 1_533_279_600 * SECOND
NOW = 1_800_000_000
DAY = 86_400 * SECOND

rows: list[Row] = []
"""What came out; at module level, for Beam pickles what it runs."""


@pytest.fixture
def time() -> FakeClock:
    return FakeClock()


@pytest.fixture
def clock(time: FakeClock) -> EventClock:
    return EventClock(wall=lambda: NOW, clock=time)


# Event time


def test_no_time_has_come_before_the_first_message(clock: EventClock, time: FakeClock) -> None:
    time.now = 3_600
    assert clock.read() is None


def test_the_newest_message_says_how_far_time_has_come_and_it_never_goes_back(clock: EventClock) -> None:
    clock.see([HISTORY + 2, HISTORY + 3, HISTORY])
    assert clock.read() == HISTORY + 3
    clock.see([HISTORY + 1])
    assert clock.read() == HISTORY + 3


def test_while_nothing_comes_time_goes_on_at_the_wall_clocks_pace(clock: EventClock, time: FakeClock) -> None:
    clock.see([HISTORY])
    for idle, expected in ((IDLE_SECONDS, 0), (IDLE_SECONDS + 60, 60), (IDLE_SECONDS + 90, 90)):
        time.now = idle
        assert clock.read() == HISTORY + expected * SECOND
    clock.see([HISTORY + SECOND])
    assert clock.read() == HISTORY + 90 * SECOND


def test_while_pubsub_is_away_time_stands(clock: EventClock, time: FakeClock) -> None:
    clock.see([HISTORY])
    time.now = 3_600
    clock.stay()
    assert clock.read() == HISTORY


@pytest.mark.parametrize("first", [[HISTORY], []])
def test_a_time_far_in_the_future_moves_nothing(clock: EventClock, first: list[int]) -> None:
    clock.see(first)
    before = clock.read()
    clock.see([NOW * SECOND + 2 * DAY, 250_000_000_000 * SECOND])
    assert clock.read() == before


def test_simulated_time_may_run_ahead_of_the_wall_clock_step_by_step(clock: EventClock) -> None:
    clock.see([NOW * SECOND])
    clock.see(NOW * SECOND + hours * DAY // 2 for hours in range(9))
    assert clock.read() == NOW * SECOND + 4 * DAY


# The journal's use


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.db")) as made:
        yield made


def windows(journal: Journal, clock: EventClock, **changes: float) -> LocalWindows:
    return LocalWindows(transform(PipelineRequest(stream="clicks", pipeline="clicks", **changes)), journal, clock)


def message(event_us: int, row_id: str = "") -> RawMessage:
    body = json.dumps({"user_pseudo_id": "ann", "event_timestamp": event_us}).encode()
    return PubsubMessage.pb()(data=body, attributes={"row_id": row_id}, message_id=row_id)


def test_what_one_job_kept_the_next_one_has_again_as_it_came(journal: Journal, clock: EventClock) -> None:
    kept = {"b": message(HISTORY + 1, "b"), "a": message(HISTORY, "a")}
    assert windows(journal, clock).keep(kept) == set()
    following = windows(journal, EventClock())
    assert following.again() == [kept["a"], kept["b"]]
    assert following.again() == []


def test_a_message_that_is_kept_is_known_for_good(journal: Journal, clock: EventClock) -> None:
    windows(journal, clock).keep({"a": message(HISTORY, "a")})
    assert windows(journal, clock).keep({"a": message(HISTORY, "a"), "b": message(HISTORY, "b")}) == {"a"}


@pytest.mark.parametrize("body", [b"{", b'{"params": ' + b"[" * 100_000], ids=["no JSON", "nested too deeply"])
def test_what_cannot_be_decoded_is_not_kept(body: bytes, journal: Journal, clock: EventClock) -> None:
    broken = {"a": PubsubMessage.pb()(data=body, message_id="a")}
    for _ in range(2):
        assert windows(journal, clock).keep(broken) == set()
    assert windows(journal, clock).again() == []


@pytest.mark.parametrize(("changes", "left"), [({}, 3), ({"lateness_seconds": 60.0}, 2)])
def test_with_bounded_lateness_what_no_window_wants_is_forgotten(
    journal: Journal, clock: EventClock, changes: dict[str, float], left: int
) -> None:
    times = (HISTORY, HISTORY + 30 * SECOND, HISTORY + 121 * SECOND)
    windows(journal, clock, **changes).keep({str(at): message(at, str(at)) for at in times})
    assert len(windows(journal, clock).again()) == left


# What it leans on


class Clicks(FakeSubscriber):
    """A subscription whose row ids are event times."""

    def _message(self, row_id: str) -> object:
        received = super()._message(row_id)
        received.message = message(int(row_id), row_id)
        return received


def test_canary_the_direct_runner_closes_windows_by_event_time_and_labels_them_by_it(
    journal: Journal, time: FakeClock
) -> None:
    """Fails when Beam changes how its read holds the watermark, or what a timer of processing time is told."""
    rows.clear()
    seconds = (1, 2, 61, 3, 62)
    subscriber = Clicks([str(HISTORY + each * SECOND) for each in seconds])
    local = windows(journal, EventClock(clock=time))
    pulls = LocalPulls("clicks", subscriber, lambda: None, windows=local)
    pipeline = beam.Pipeline(runner=BundleBasedDirectRunner(), options=PipelineOptions(["--streaming"]))
    messages = pipeline | beam.io.ReadFromPubSub(subscription=SUBSCRIPTION, with_attributes=True)
    made, _ = messages | beam.Map(from_pubsub) | transform(PipelineRequest(stream="clicks", pipeline="clicks"))
    made | beam.Map(_note)
    with pulls.installed():
        result = pipeline.run()
        # All came in one pull, so none is late, and the first minute ends when the next pull finds nothing.
        wait_for(lambda: _timings(count=3) == ["ON_TIME"], "the first minute is closed with all its records")
        wait_for(lambda: _timings(count=2) == ["EARLY"], "the open one is written early, though its day is long past")
        subscriber.waiting.append(str(HISTORY + 4 * SECOND))
        wait_for(lambda: _timings(count=4) == ["LATE"], "what comes later is late")
        time.now = IDLE_SECONDS + 60
        wait_for(lambda: _timings(count=2) == ["EARLY", "ON_TIME"], "the last minute is closed when nothing comes")
        assert pulls.drain(timeout=10)
        result.cancel()
    assert len(rows) <= 5


def _note(row: Row) -> None:
    rows.append(row)


def _timings(count: int) -> list[str]:
    return [row.values["pane_timing"] for row in rows if row.values["event_count"] == count]
