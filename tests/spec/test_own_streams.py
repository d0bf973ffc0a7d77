"""The specs that come along: what their sources have is what they name, and their jobs can be asked for."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from rejeu.jobs.build import batch_job_request, replay_request, stream_job_request
from rejeu.jobs.request import BatchJobRequest, ReplayRequest, StreamJobRequest
from rejeu.replay.source.generated import open_generator
from rejeu.spec.files import read_spec
from rejeu.spec.model import StreamSpec
from rejeu.target import Target
from tests.paths import STREAMS

TARGET = Target(project="rejeu-test", bucket="raw", state="sqlite:/tmp/state.db")


def spec_of(stream: str) -> StreamSpec:
    return read_spec(STREAMS / f"{stream}.yaml")


@pytest.mark.parametrize("file", sorted(STREAMS.glob("*.yaml")), ids=lambda file: file.stem)
def test_its_file_its_jobs_and_its_tables_are_named_after_it(file: Path) -> None:
    spec = read_spec(file)
    assert spec.stream == file.stem
    assert spec.batch is not None
    replay, stream = replay_request(spec, TARGET, None, None), stream_job_request(spec, TARGET)
    batch = batch_job_request(spec, TARGET, spec.batch.files, "2026-01-01", "gs://raw/out")
    assert ReplayRequest.from_argv(replay.to_argv()) == replay
    assert StreamJobRequest.from_argv(stream.to_argv()) == stream
    assert BatchJobRequest.from_argv(batch.to_argv()) == batch
    assert batch.files.startswith(f"gs://raw/{spec.stream}/dt=2026-01-01/")
    assert (stream.window_seconds, stream.session_seconds) == (batch.window_seconds, batch.session_seconds)


@pytest.mark.parametrize("stream", ["iot_sensors", "site_access"])
def test_a_simulator_has_the_columns_that_its_spec_names(stream: str) -> None:
    spec = spec_of(stream)
    assert spec.replay is not None
    assert spec.replay.source.generator is not None
    columns = {column.name for column in open_generator(spec.replay.source.generator).columns}
    assert {spec.source_time, *spec.source_key} <= columns


def test_sensors_are_counted_in_quarters_of_a_minute_and_by_one_line_in_sessions() -> None:
    file = STREAMS / "iot_sensors.yaml"
    assert stream_job_request(read_spec(file), TARGET).window_seconds == 15
    fixed, session = "  window: {fixed: 15s}\n", "  # window: {session: 30s}\n"
    text = file.read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text.replace(fixed, "").replace(session, session.replace("# ", "")))
    del document["batch"]
    asked = stream_job_request(StreamSpec.model_validate(document), TARGET)
    assert (asked.window_seconds, asked.session_seconds) == (None, 30)


def test_sites_are_simulated_an_hour_in_a_minute() -> None:
    spec = spec_of("site_access")
    assert spec.replay is not None
    assert timedelta(hours=1) / spec.replay.speed == timedelta(minutes=1)  # type: ignore[operator]
    limited = open_generator("site_access:limit=10000")
    assert sum(table.num_rows for table in limited.tables()) == 10_000


def test_clicks_are_read_from_files_whose_times_are_microseconds() -> None:
    asked = replay_request(spec_of("clickstream"), TARGET, None, None)
    assert (asked.file, asked.event_time, asked.time_unit) == (
        "gs://raw/clickstream/events-*.parquet",
        "event_timestamp",
        "us",
    )
    assert stream_job_request(spec_of("clickstream"), TARGET).window_seconds == 60
