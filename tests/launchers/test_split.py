"""Streaming jobs run in one place and all others in another: who knows a job's name finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rejeu.errors import RequestError
from rejeu.jobs.request import BatchJobRequest, ReconcileRequest, ReplayRequest, StreamJobRequest
from rejeu.launchers.choose import job_launcher, updating_launcher
from rejeu.launchers.dataflow import DataflowLauncher
from rejeu.launchers.process import ProcessLauncher
from rejeu.launchers.split import SplitLauncher
from rejeu.ports import JobState
from rejeu.target import Target
from rejeu.testing import FakeLauncher

REQUESTS = {
    "stream": StreamJobRequest.of(
        stream="web", pipeline="rates", subscription="s", table="t", dead_letters="d", event_time="at"
    ),
    "batch": BatchJobRequest.of(
        stream="stream_web", pipeline="rates", files="f", output="o/1", event_time="at", partition="2021-04-30"
    ),
    "reconcile": ReconcileRequest.of(
        stream="web",
        topic="projects/p/topics/t",
        table="d.t",
        event_time="at",
        until="2021-05-01T00:00:00Z",
        pipeline="rates",
        streaming_table="t",
        streaming_time="at",
        dead_letters="d",
    ),
    "replay": ReplayRequest.of(stream="stream", topic="projects/p/topics/t", table="d.t", event_time="at"),
}
DATAFLOW = {
    "REJEU_PROJECT": "rejeu-test",
    "REJEU_JOBS": "dataflow",
    "REJEU_REGION": "europe-west1",
    "REJEU_BUCKET": "raw",
    "REJEU_TEMPLATE": "gs://raw/stream.json",
    "REJEU_JOBS_IMAGE": "europe-docker.pkg.dev/rejeu-test/rejeu/beam:1",
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_job_is_started_found_and_stopped_in_its_own_place(kind: str) -> None:
    streams, others = FakeLauncher(), FakeLauncher()
    apart = SplitLauncher(streams, others)
    job = apart.start(REQUESTS[kind])
    own, foreign = (streams, others) if kind == "stream" else (others, streams)
    assert (own.find(job.name), foreign.find(job.name)) == (apart.find(job.name), None)
    stopped = apart.stop(job.name)
    assert stopped is not None
    assert stopped.state is JobState.STOPPED


def test_on_dataflow_streaming_jobs_run_there_and_batches_here(tmp_path: Path) -> None:
    launcher = job_launcher(Target.from_env(DATAFLOW | {"REJEU_HOME": str(tmp_path)}))
    assert isinstance(launcher, SplitLauncher)
    assert isinstance(launcher.others, ProcessLauncher)


@pytest.mark.parametrize("name", ["REGION", "BUCKET", "TEMPLATE", "JOBS_IMAGE"])
def test_what_dataflow_needs_is_asked_for(name: str) -> None:
    given = {key: value for key, value in DATAFLOW.items() if key != f"REJEU_{name}"}
    with pytest.raises(RequestError, match=f"REJEU_JOBS: it is 'dataflow': set REJEU_{name} too"):
        Target.from_env(given)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("REGION", "europe"), ("TEMPLATE", "stream.json"), ("JOBS_SERVICE_ACCOUNT", "me@example.com")],
)
def test_what_dataflow_would_refuse_is_named(name: str, wrong: str) -> None:
    with pytest.raises(RequestError, match=f"REJEU_{name}: it is '{wrong}'"):
        Target.from_env(DATAFLOW | {f"REJEU_{name}": wrong})


def test_on_dataflow_a_streaming_job_can_be_updated_in_place() -> None:
    assert isinstance(updating_launcher(Target.from_env(DATAFLOW)), DataflowLauncher)


def test_an_update_where_streaming_jobs_are_processes_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="REJEU_JOBS is 'process', which updates no job in place: stop"):
        updating_launcher(Target(project="rejeu-test", home=tmp_path))
