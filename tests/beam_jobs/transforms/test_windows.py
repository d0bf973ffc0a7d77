"""Windows tell records apart by their messages, close by event time, and say which pane a row is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
import pytest
from apache_beam import Create
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing import test_stream
from apache_beam.testing.util import assert_that

from beam_jobs.direct.journal import Journal
from beam_jobs.direct.windows import EventClock, LocalWindows
from beam_jobs.pipelines.clicks.transform import transform
from beam_jobs.transforms.counts import counted_here
from beam_jobs.transforms.records import Message, Row
from beam_jobs.transforms.windows import Decoder, Record, Windowed
from rejeu.jobs.request import PipelineRequest
from rejeu.spec.pipelines import PIPELINES, Windows
from tests.beam_jobs.builders import pipeline_here

HOUR: Final = 1_533_279_600
"""An hour of August 2018, in seconds: history, for every clock that runs while this is tested."""

ACCUMULATING: Final = 2
"""Of Beam's AccumulationMode, as it is sent."""

Pane = tuple[int, int, int, str]
"""Start and end in seconds after the hour, how many records, and the timing."""


def ask(**changes: Any) -> PipelineRequest:
    return PipelineRequest(stream="clicks", pipeline="clicks", **changes)


def click(second: float, row_id: str = "", user: str = "ann") -> Message:
    """An event of this second of the hour, under an id of its own unless one is given."""
    body = {"user_pseudo_id": user, "event_timestamp": round((HOUR + second) * 1e6)}
    return Message(row_id or f"clicks/{second}/{user}/0", json.dumps(body).encode(), {})


def panes_of(rows: list[Row]) -> list[Pane]:
    return sorted(
        (
            seconds_of(row.values["window_start"]),
            seconds_of(row.values["window_end"]),
            row.values["event_count"],
            row.values["pane_timing"],
        )
        for row in rows
    )


def seconds_of(instant: str) -> int:
    """Seconds after the hour."""
    day, _, clock = instant.partition("T")
    assert day == "2018-08-03"
    hours, minutes, seconds = clock.rstrip("Z").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(float(seconds)) - HOUR % 86_400


def late_rows() -> int:
    """How many rows this process has counted as late."""
    return int(counted_here("clicks").rpartition("late ")[2])


def check(*expected: Pane) -> Callable[[list[Row]], None]:
    def look(rows: list[Row]) -> None:
        assert panes_of(rows) == sorted(expected)

    return look


def run_bounded(messages: list[Message], request: PipelineRequest, look: Callable[[list[Row]], None]) -> None:
    with pipeline_here() as pipeline:
        rows, letters = pipeline | Create(messages) | transform(request)
        assert_that(rows, look, "rows")
        assert_that(letters, lambda found: check()([]) if not found else pytest.fail(str(found)), "letters")


# A key of several columns

TWO: Final = Windows(key=("site", "service"), start="window_start", end="window_end", count="visits", seconds=60.0)


def visit_decoder() -> Decoder:
    def decode(body: bytes) -> Record:
        visit = json.loads(body)
        return Record(tuple(visit["key"]), HOUR * 1_000_000, None)

    return decode


def visits(*keys: list[str]) -> beam.PTransform:
    """Messages of these keys, all in one window, by a pipeline whose rows have two columns for a key."""
    messages = [Message(f"visits/{at}", json.dumps({"key": key}).encode(), {}) for at, key in enumerate(keys)]
    windowed = Windowed(ask(), TWO, visit_decoder, lambda _: {})
    return Create(messages) | "visits" >> windowed


def test_every_column_of_a_key_is_written() -> None:
    def look(rows: list[Row]) -> None:
        found = sorted((row.values["site"], row.values["service"], row.values["visits"]) for row in rows)
        assert found == [("north", "café", 1), ("north", "gate", 2), ("south", "gate", 1)]
        assert len({row.row_id for row in rows}) == 3

    with pipeline_here() as pipeline:
        rows, _ = pipeline | visits(["north", "gate"], ["south", "gate"], ["north", "gate"], ["north", "café"])
        assert_that(rows, look, "rows")


def test_half_a_key_is_a_dead_letter() -> None:
    def look(letters: list[Row]) -> None:
        [letter] = letters
        assert "it must have a text for each of site, service" in letter.values["reason"]

    with pipeline_here() as pipeline:
        _, letters = pipeline | visits(["north"])
        assert_that(letters, look, "letters")


# What is there from the start


def test_a_window_has_one_row_a_key_with_all_its_records() -> None:
    clicks = [click(0), click(59.999999), click(60), click(61), click(30, user="bob")]
    run_bounded(clicks, ask(), check((0, 60, 2, "ON_TIME"), (0, 60, 1, "ON_TIME"), (60, 120, 2, "ON_TIME")))


def test_a_message_that_comes_twice_counts_once() -> None:
    run_bounded([click(0, "a"), click(1, "b"), click(0, "a")], ask(), check((0, 60, 2, "ON_TIME")))


def test_windows_are_as_long_as_one_says() -> None:
    run_bounded(
        [click(0), click(14), click(15)], ask(window_seconds=15), check((0, 15, 2, "ON_TIME"), (15, 30, 1, "ON_TIME"))
    )


def test_a_session_ends_with_a_pause_and_a_pause_of_just_that_length_is_one() -> None:
    clicks = [click(0), click(9), click(18), click(28), click(50)]
    expected = check((0, 28, 3, "ON_TIME"), (28, 38, 1, "ON_TIME"), (50, 60, 1, "ON_TIME"))
    run_bounded(clicks, ask(session_seconds=10), expected)


def test_a_row_has_the_pipelines_columns_and_names_its_messages() -> None:
    def look(rows: list[Row]) -> None:
        [row] = rows
        columns = PIPELINES["clicks"].columns
        assert columns is not None
        assert list(row.values) == [column.name for column in columns]
        assert row.row_id == f"clicks/{HOUR}000000/ann/{HOUR + 60}000000/ON_TIME-0#2"
        assert row.message.attributes == {"first": "a", "last": "b"}

    run_bounded([click(1, "b"), click(2, "a")], ask(), look)


def test_a_long_key_is_shortened_in_the_row_id_alone() -> None:
    def look(rows: list[Row]) -> None:
        [row] = rows
        assert row.values["user_pseudo_id"] == "x" * 5_000
        assert len(row.row_id) < 200

    run_bounded([click(1, user="x" * 5_000)], ask(), look)


@pytest.mark.parametrize("micros", [253_402_300_799_000_000, -62_135_596_800_000_000, 10**25, 2**63, -(10**40)])
def test_a_time_that_no_calendar_has_is_a_dead_letter(micros: int) -> None:
    body = json.dumps({"user_pseudo_id": "ann", "event_timestamp": micros}).encode()
    dies_alone(body, "must lie in the years 1 to 9999")


def test_what_is_nested_too_deeply_is_a_dead_letter() -> None:
    depth = 100_000
    dies_alone(b'{"user_pseudo_id": "ann", "params": ' + b"[" * depth + b"]" * depth + b"}", "recursion depth")


def dies_alone(body: bytes, reason: str) -> None:
    """Of two messages this one dies, and the other one is counted."""

    def look(letters: list[Row]) -> None:
        [letter] = letters
        assert letter.values["step"] == "decode"
        assert reason in letter.values["reason"]

    with pipeline_here() as pipeline:
        rows, letters = pipeline | Create([Message("a", body, {}), click(0)]) | transform(ask())
        assert_that(rows, check((0, 60, 1, "ON_TIME")), "rows")
        assert_that(letters, look, "letters")


# What comes bit by bit, on the runner that streams in this process


@pytest.fixture
def streaming(tmp_path: Path) -> Callable[..., Any]:
    """Runs what a script of messages and watermarks makes of windows, and looks at the rows."""

    def run(
        script: test_stream.TestStream, request: PipelineRequest, look: Callable[[list[Row]], None]
    ) -> beam.Pipeline:
        windowed = transform(request)
        windows = LocalWindows(windowed, Journal(tmp_path / "journal.db"), EventClock())
        pipeline = beam.Pipeline(runner=BundleBasedDirectRunner(), options=PipelineOptions(["--streaming"]))
        rows, _ = pipeline | script | windowed
        assert_that(rows, look)
        with windows.installed():
            pipeline.run().wait_until_finish()
        return pipeline

    return run


def script() -> test_stream.TestStream:
    return test_stream.TestStream().advance_processing_time(1_700_000_000).advance_watermark_to(HOUR)


def test_an_open_window_is_written_once_a_second_and_again_when_it_ends(streaming: Callable[..., Any]) -> None:
    told = script().add_elements([click(1)]).add_elements([click(2)]).advance_processing_time(1)
    told = told.add_elements([click(3)]).advance_processing_time(1).advance_watermark_to(HOUR + 60)
    expected = check((0, 60, 2, "EARLY"), (0, 60, 3, "EARLY"), (0, 60, 3, "ON_TIME"))
    streaming(told.advance_processing_time(9).advance_watermark_to_infinity(), ask(), expected)


def test_a_window_that_ends_before_its_early_row_is_due_is_written_once(streaming: Callable[..., Any]) -> None:
    told = script().add_elements([click(1)]).advance_watermark_to(HOUR + 60).advance_processing_time(9)
    streaming(told.advance_watermark_to_infinity(), ask(), check((0, 60, 1, "ON_TIME")))


def test_what_comes_late_is_added_and_counted_however_late(streaming: Callable[..., Any]) -> None:
    told = script().add_elements([click(1)]).advance_watermark_to(HOUR + 86_400 * 365)
    told = told.add_elements([click(2), click(3)]).advance_processing_time(1).advance_watermark_to_infinity()
    before = late_rows()
    streaming(told, ask(), check((0, 60, 1, "ON_TIME"), (0, 60, 3, "LATE")))
    assert late_rows() == before + 1


def test_what_is_later_than_it_may_be_is_dropped(streaming: Callable[..., Any]) -> None:
    told = script().add_elements([click(1)]).advance_watermark_to(HOUR + 91)
    told = told.add_elements([click(2)]).advance_processing_time(1).advance_watermark_to_infinity()
    streaming(told, ask(lateness_seconds=30), check((0, 60, 1, "ON_TIME")))


def test_a_session_is_written_while_it_is_open_and_swallows_others(streaming: Callable[..., Any]) -> None:
    told = script().add_elements([click(0), click(12)]).advance_processing_time(1)
    told = told.add_elements([click(6)]).advance_processing_time(1).advance_watermark_to(HOUR + 60)
    rows = check((0, 10, 1, "EARLY"), (12, 22, 1, "EARLY"), (0, 22, 3, "EARLY"), (0, 22, 3, "ON_TIME"))
    streaming(told.advance_watermark_to_infinity(), ask(session_seconds=10), rows)


# What Dataflow is told


def test_dataflow_is_told_of_panes_in_parts_of_a_second_that_accumulate_for_ever() -> None:
    pipeline = beam.Pipeline(options=PipelineOptions(["--streaming"]))
    rows, _ = pipeline | test_stream.TestStream() | transform(ask(early_seconds=0.25, window_seconds=15))
    assert rows.windowing.is_default()
    strategies = pipeline.to_runner_api().components.windowing_strategies.values()
    [strategy] = [each for each in strategies if _delays(each.trigger.after_end_of_window) == [250, 250]]
    assert strategy.accumulation_mode == ACCUMULATING
    assert strategy.allowed_lateness > 9_999 * 365 * 86_400_000


def _delays(trigger: Any) -> list[int]:
    """How long after a record panes come before and after a window's end, in milliseconds."""
    firings = (trigger.early_firings, trigger.late_firings)
    return [each.delay.delay_millis for firing in firings for each in firing.after_processing_time.timestamp_transforms]
