"""What a spec may say of windows, and what the jobs of such a stream are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rejeu.errors import SpecError
from rejeu.jobs.build import batch_job_request, stream_job_request
from rejeu.spec.files import read_spec
from rejeu.spec.model import StreamSpec
from rejeu.target import Target
from rejeu.timeline import HandOver

TARGET = Target(project="rejeu-test", bucket="raw")
BATCH = {"files": "gs://{bucket}/clicks/{partition}/*", "table": "web.batch"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "clickstream.yaml"


def read(file: Path, *, pipeline: str = "clicks", window: object = None, **changes: Any) -> StreamSpec:
    """A spec with this pipeline and these windows; `changes` replace its other fields, those of `live` too."""
    live = {"topic": "clicks", "table": "web.clicks", "pipeline": pipeline, **changes.pop("live", {})}
    if window is not None:
        live["window"] = window
    source = {"files": "clicks.parquet", "time": "event_timestamp", "key": ["user_pseudo_id"]}
    document = {"stream": "clickstream", "event_time": "window_start", "live": live, "replay": {"source": source}}
    file.write_text(yaml.safe_dump(document | changes))
    return read_spec(file)


def told(spec: StreamSpec) -> set[str]:
    """What the streaming job is told of windows."""
    return {flag for flag in stream_job_request(spec, TARGET).to_argv() if flag.partition("=")[0] in FLAGS}


FLAGS = ("--window-seconds", "--session-seconds", "--early-seconds", "--lateness-seconds")


def test_windows_are_as_long_as_the_pipeline_says(file: Path) -> None:
    assert told(read(file)) == {"--window-seconds=60.0"}


def test_windows_are_as_long_as_the_spec_says(file: Path) -> None:
    window = {"fixed": "5m", "early": "500ms", "lateness": "1h"}
    assert told(read(file, window=window)) == {
        "--window-seconds=300.0",
        "--early-seconds=0.5",
        "--lateness-seconds=3600.0",
    }


def test_one_line_makes_sessions_of_them(file: Path) -> None:
    assert told(read(file, window={"session": "30m"})) == {"--session-seconds=1800.0"}


def test_the_batch_counts_in_the_same_windows_as_the_stream(file: Path) -> None:
    spec = read(file, batch=BATCH, window={"fixed": "5m"})
    assert batch_job_request(spec, TARGET, BATCH["files"], "2021-04-30", "out").window_seconds == 300


def test_a_stream_that_aggregates_counts_the_batchs_last_window_anew(file: Path) -> None:
    assert read(file, batch=BATCH).hand_over is HandOver.LAST_WINDOW


def test_any_other_stream_starts_at_the_next_row(file: Path) -> None:
    spec = read(file, pipeline="passthrough", event_time="event_timestamp")
    assert spec.hand_over is HandOver.NEXT_ROW
    assert told(spec) == set()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "two kinds": (
        {"window": {"fixed": "1m", "session": "5m"}},
        "it has fixed and session: windows are of one length, or sessions; write one of them",
    ),
    "windows of a pipeline that has none": (
        {"window": {"fixed": "1m"}, "pipeline": "passthrough"},
        "window is given, and pipeline passthrough has no windows: leave it out",
    ),
    "sessions beside a batch": (
        {"window": {"session": "1m"}, "batch": BATCH},
        "leave batch out, or take fixed windows",
    ),
    "another time than the window's": (
        {"event_time": "window_end"},
        "event_time is 'window_end': pipeline clicks writes one row a window, so it must be window_start",
    ),
    "a hand-over that would skip a part of a window": (
        {"live": {"hand_over": "next_row"}},
        "hand_over is next_row: with pipeline clicks it must be last_window",
    ),
    "a hand-over that would repeat rows": (
        {"live": {"hand_over": "last_window"}, "pipeline": "passthrough", "event_time": "event_timestamp"},
        "hand_over is last_window: with pipeline passthrough it must be next_row or next_minute",
    ),
    "a source whose time nobody names": (
        {"replay": {"source": {"files": "clicks.parquet", "key": ["user_pseudo_id"]}}},
        "replay.source.time is missing: pipeline clicks writes other rows than it reads, so name",
    ),
    "an unknown field": ({"window": {"fixd": "1m"}}, "Fields here: fixed, session, early, lateness."),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_refused_with_its_reason(wrong: str, file: Path) -> None:
    changes, message = WRONG[wrong]
    with pytest.raises(SpecError) as refused:
        read(file, **changes)
    assert message in str(refused.value)
