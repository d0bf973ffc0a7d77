"""The sections of the benchmarks, in small: they measure what they say, on real processes; how much, nobody asserts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import benchmarks.decoding
import benchmarks.freshness
import benchmarks.lateness
import benchmarks.memory
import benchmarks.parsing
import benchmarks.reading
import benchmarks.streaming
import benchmarks.takeover
import benchmarks.watching
from benchmarks.decoding import decoding
from benchmarks.feed import FIRST_EPOCH, Feed
from benchmarks.freshness import freshness
from benchmarks.lateness import behind_us, lateness
from benchmarks.memory import memory, resident
from benchmarks.parsing import parsing
from benchmarks.reading import reading
from benchmarks.record import Arrivals, Recorder
from benchmarks.section import Options
from benchmarks.servers import VARIABLES
from benchmarks.streaming import streaming
from benchmarks.takeover import takeover
from benchmarks.watching import HANGING, POLL, Scale, watching
from rejeu.timeline import Timeline

SMALL = Options(messages=3_000, rounds=1, memory_rows=3_000)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections select servers by environment: what they change is undone."""
    for variable in (*VARIABLES, "BIGQUERY_EMULATOR_HOST", "BIGQUERY_STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")


def test_a_record_gives_back_every_message_with_its_times_and_epoch(tmp_path: Path) -> None:
    feed = Feed.make(tmp_path, 2_500)
    recorder = Recorder(tmp_path / "record")
    for request in feed.requests:
        recorder.note(request)

    arrivals = Arrivals.read(tmp_path / "record")

    assert arrivals.event_us.tolist() == [us for chunk in feed.chunks for us in chunk.event_us.tolist()]
    assert set(arrivals.epochs.tolist()) == {FIRST_EPOCH}
    assert (np.diff(arrivals.at_us) >= 0).all()


def test_a_message_that_arrives_before_it_is_due_is_early() -> None:
    """At ten times the speed the second row is due 100 µs after the first."""
    timeline = Timeline(event_us=5_000, wall_us=70_000, speed=10.0)
    event_us = np.array([5_000, 6_000, 6_000])
    arrivals = Arrivals(np.array([70_000, 70_099, 70_101]), event_us, np.ones(3, np.int64))

    assert behind_us(arrivals, timeline).tolist() == [0, -1, 1]


def test_the_kernel_tells_how_large_a_process_is() -> None:
    sizes = resident(os.getpid())

    assert sizes["VmHWM"] >= sizes["RssAnon"] > 1_000_000
    assert resident(2**22 + 1) == {}, "there is no such process"


@pytest.mark.emulated
def test_lateness_has_a_run_for_each_rate_and_none_is_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks.lateness, "RATES", (500,))
    monkeypatch.setattr(benchmarks.lateness, "SECONDS", 1)

    [run] = lateness(SMALL).figures

    assert (run["rate"], run["messages"], run["early"]) == (500, 500, 0)
    assert 0 < run["reported"]["p50"] <= run["reported"]["max"]
    assert 0 < run["arrived"]["p50"] <= run["arrived"]["max"]


@pytest.mark.emulated
def test_every_stage_reads_every_row() -> None:
    figures = reading(SMALL).figures

    stages = ["parquet", "ndjson", "bigquery", "chunks", "encode flat", "encode nested", "messages"]
    assert {each["stage"]: each["rows"] for each in figures} == dict.fromkeys(stages, SMALL.messages)


@pytest.mark.emulated
def test_memory_is_that_of_a_whole_replay() -> None:
    figures = memory(SMALL).figures

    assert figures["rows"] == SMALL.memory_rows
    assert figures["peak_bytes"] > figures["own_bytes"] > 10_000_000


@pytest.mark.emulated
def test_a_standby_takes_over_from_every_holder_that_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks.takeover, "KILLS_A_ROUND", 2)
    monkeypatch.setattr(benchmarks.takeover, "ROWS", 60_000)

    figures = takeover(SMALL).figures

    assert len(figures["milliseconds"]) == 2
    assert all(each > 0 for each in figures["milliseconds"])


@pytest.mark.emulated
def test_every_silence_is_seen_by_both_ways_to_watch_and_no_other_stream_is_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(benchmarks.watching, "SCALE", Scale(streams=40, settled_seconds=0.5, steady_seconds=1.0))
    monkeypatch.setattr(benchmarks.watching, "WATCHERS", (HANGING, POLL))

    runs = watching(SMALL).figures["runs"]

    assert [(run["silent"], run["seen"], run["others"]) for run in runs] == [(2, 2, 0)] * 2
    assert all(0 <= run["delay_ms"]["p50"] <= run["delay_ms"]["max"] for run in runs)


def test_every_pipeline_decodes_the_same_messages_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks.decoding, "WARM_UP", 1)

    runs = {run["subject"]: run for run in decoding(SMALL).figures}

    assert {run["messages"] for run in runs.values()} == {600}
    assert runs["no-op"]["rows"] == runs["passthrough"]["rows"] == 600
    assert 600 * 5 < runs["rates"]["rows"] < 600 * 12, "an oracle request asks for 5 to 12 symbols"


@pytest.mark.emulated
def test_every_job_brings_all_rows_from_either_kind_of_subscription(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks.streaming, "BEAMS_SHARE", 10)
    monkeypatch.setattr(benchmarks.streaming, "OURS", ("rates",))

    runs = streaming(SMALL).figures

    assert [(run["pipeline"], run["filled"]) for run in runs] == [
        ("Beam's own", "beforehand"),
        ("rates", "beforehand"),
        ("rates", "meanwhile"),
    ]
    assert all(run["rows"] > 0 and run["seconds"] > 0 for run in runs)


@pytest.mark.emulated
def test_a_row_is_seen_after_it_was_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks.freshness, "RATES", (50,))
    monkeypatch.setattr(benchmarks.freshness, "SECONDS", 1)

    [run] = freshness(SMALL).figures

    assert (run["rate"], run["rows"]) == (50, 50)
    assert 0 < run["seen_ms"]["p50"] <= run["seen_ms"]["max"]
    assert run["query_ms"]["p50"] > 0


@pytest.mark.slow
def test_parsing_is_measured_in_airflows_own_dag_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks.parsing, "SCALES", (benchmarks.parsing.Scale(3, 2),))

    [run] = parsing(SMALL).figures

    assert (run["specs"], run["dags"], run["errors"]) == (3, 15, 0)
    assert 0 < run["slowest_seconds"] < 30
    assert run["patrol_seconds"] > 0
