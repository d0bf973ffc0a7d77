"""The waits in the triggerer: when each fires, what it says, and that it is written down and made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud import bigquery

from rejeu.airflow.triggers import AwaitedJob, AwaitedLoad, JobTrigger, LoadJobTrigger, ReturnTrigger, jobs, watching
from rejeu.bigquery import load_jobs
from rejeu.bigquery.load_jobs import OVERLAP, LoadJobSearch
from rejeu.jobs.request import BatchJobRequest
from rejeu.ports import JobState, Signal
from rejeu.spec.model import StreamSpec
from rejeu.state.model import Status
from rejeu.target import Target
from rejeu.testing import FakeLauncher, FakeProbe, MemoryStore
from tests.airflow.builders import STREAM, FakeBigQuery, ago, alive, fired, measured, remember, revive, text

Sees = Callable[..., None]

# The signal's return

UNSETTLED = [Signal.STARTING, Signal.STALLED, Signal.UNKNOWN, Signal.UNDELIVERED]
SETTLED = [signal for signal in Signal if signal not in UNSETTLED]


@pytest.fixture
def sees(monkeypatch: pytest.MonkeyPatch) -> Sees:
    """Has every watch see these signals, one after the other, the last one for ever."""

    def put(*signals: Signal) -> None:
        probe = FakeProbe(signals)
        monkeypatch.setattr(watching, "Watch", lambda *_: SimpleNamespace(look=probe.check))

    return put


@pytest.mark.parametrize("unsettled", UNSETTLED)
def test_a_replay_that_has_not_shown_how_it_fares_is_waited_for(
    spec: StreamSpec, target: Target, sees: Sees, unsettled: Signal
) -> None:
    sees(unsettled, unsettled, Signal.FLOWING)
    assert fired(ReturnTrigger.watching(spec, target))["signal"] == "FLOWING"


@pytest.mark.parametrize("settled", SETTLED)
def test_whatever_becomes_of_a_replay_ends_the_wait(
    spec: StreamSpec, target: Target, sees: Sees, settled: Signal
) -> None:
    sees(settled)
    assert fired(ReturnTrigger.watching(spec, target))["signal"] == settled.name


def test_what_somebody_else_publishes_is_waited_for_until_it_is_back(
    foreign_spec: StreamSpec, target: Target, sees: Sees
) -> None:
    sees(Signal.SILENT, Signal.SILENT, Signal.FLOWING)
    assert fired(ReturnTrigger.watching(foreign_spec, target))["signal"] == "FLOWING"


def test_a_replay_that_publishes_is_seen_through_its_heartbeat(
    spec: StreamSpec, target: Target, store: MemoryStore
) -> None:
    remember(store, **alive(status=Status.RUNNING))
    assert fired(revive(ReturnTrigger.watching(spec, target)))["signal"] == "FLOWING"


def test_a_wait_is_written_down_and_made_again(spec: StreamSpec, target: Target) -> None:
    trigger = ReturnTrigger.watching(spec, target, last_seen=text(ago(60)))
    assert trigger.serialize()[0] == "rejeu.airflow.triggers.ReturnTrigger"
    assert revive(trigger).serialize() == trigger.serialize()


# Jobs


@pytest.fixture
def job(launcher: FakeLauncher) -> str:
    request = BatchJobRequest(
        stream=STREAM, pipeline="rates", files="*", output="out", event_time="timestamp", partition="2021-04-30"
    )
    return launcher.start(request).name


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED])
def test_the_end_of_a_job_is_told_whatever_was_awaited(launcher: FakeLauncher, job: str, state: JobState) -> None:
    launcher.end(job, state, "exit code 3")
    for awaited in (JobState.RUNNING, JobState.SUCCEEDED):
        event = fired(revive(JobTrigger.of(AwaitedJob(name=job, awaited=awaited))))
        assert event == {"name": job, "id": "1", "state": state, "detail": "exit code 3"}


def test_a_job_that_runs_is_told_where_that_is_awaited(job: str) -> None:
    assert fired(revive(JobTrigger.of(AwaitedJob(name=job, awaited=JobState.RUNNING))))["state"] == "running"


def test_a_job_that_runs_is_waited_for_where_its_end_is_awaited(
    launcher: FakeLauncher, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: Iterator[JobState] = iter([JobState.RUNNING, JobState.RUNNING, JobState.SUCCEEDED])
    find = launcher.find

    def later(name: str) -> Any:
        launcher.end(name, next(looks))
        return find(name)

    monkeypatch.setattr(launcher, "find", later)
    assert fired(revive(JobTrigger.of(AwaitedJob(name=job, awaited=JobState.SUCCEEDED))))["state"] == "succeeded"
    assert next(looks, None) is None


def test_a_launcher_is_left_alone_for_as_long_as_it_wants_to_be(
    launcher: FakeLauncher, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        launcher.end(job, JobState.SUCCEEDED)

    monkeypatch.setattr(jobs.asyncio, "sleep", sleep)
    launcher.jobs[job] = replace(launcher.jobs[job], rest_seconds=10.0)
    assert fired(JobTrigger.of(AwaitedJob(name=job, awaited=JobState.SUCCEEDED)))["state"] == "succeeded"
    assert slept == [10.0]


def test_a_job_that_nobody_knows_has_failed(launcher: FakeLauncher) -> None:
    event = fired(JobTrigger.of(AwaitedJob(name="rejeu-batch-nothing", awaited=JobState.SUCCEEDED)))
    assert event["state"] == "failed"
    assert event["detail"].startswith("no record of it is on the triggerer's machine: jobs that are processes need")


@pytest.mark.usefixtures("launcher")
def test_a_job_that_a_cloud_has_forgotten_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = {"BUCKET": "b", "IMAGE": "i", "JOBS_IMAGE": "j", "REGION": "europe-west1", "STATE": "gs://b/s"}
    for name, value in {"LAUNCHER": "cloud-run", **cloud}.items():
        monkeypatch.setenv(f"REJEU_{name}", value)
    event = fired(JobTrigger.of(AwaitedJob(name="rejeu-batch-nothing", awaited=JobState.SUCCEEDED)))
    assert (event["state"], event["detail"]) == ("failed", "its record is gone")


# Load jobs of others

TABLE = "rejeu-test.temp_crypto_batch.batch_timestamp"


DAY_AFTER = datetime(2021, 5, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def load_job(
    name: str,
    table: str = "batch_timestamp",
    error: str | None = None,
    state: str = "DONE",
    created: datetime = DAY_AFTER + MINUTE,
) -> bigquery.LoadJob:
    """A load job as BigQuery's API lists it."""
    destination = {"projectId": "rejeu-test", "datasetId": "temp_crypto_batch", "tableId": table}
    result = {"errorResult": {"reason": "invalid", "message": error}} if error else {}
    resource = {
        "jobReference": {"projectId": "rejeu-test", "jobId": name, "location": "US"},
        "configuration": {"load": {"destinationTable": destination}},
        "statistics": {"creationTime": str(created.timestamp() * 1000)},
        "status": {"state": state, **result},
    }
    return bigquery.LoadJob.from_api_repr(resource, client=None)


def a_query(created: datetime) -> Any:
    return SimpleNamespace(job_id="a query", created=created, state="DONE", error_result=None)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeBigQuery:
    """BigQuery, where the day has rows."""
    fake = FakeBigQuery(measured(1000))
    monkeypatch.setattr(load_jobs, "bigquery_client", lambda project: fake)
    return fake


@pytest.fixture
def search() -> LoadJobSearch:
    return LoadJobSearch("rejeu-test", TABLE, "timestamp", "2021-04-30")


@pytest.fixture
def find(client: FakeBigQuery, search: LoadJobSearch) -> Callable[..., str | None]:
    """Ask for the day's load job where these jobs are listed and the day has so many rows."""

    def ask(*jobs: Any, rows: int = 1000) -> str | None:
        client.rows, client.jobs = [measured(rows)], list(jobs)
        found = search.look()
        (listed,) = client.listed
        assert listed["all_users"] is True
        assert listed["min_creation_time"] == DAY_AFTER
        return found

    return ask


def test_every_further_look_asks_for_what_is_new(client: FakeBigQuery, search: LoadJobSearch) -> None:
    for hour in range(1, 4):
        client.jobs = [a_query(DAY_AFTER + timedelta(hours=hour)), load_job("another", "another_table")]
        assert search.look() is None
    assert [each["min_creation_time"] - DAY_AFTER for each in client.listed] == [
        timedelta(0),
        timedelta(hours=1) - OVERLAP,
        timedelta(hours=2) - OVERLAP,
    ]


def test_a_load_that_has_not_ended_is_asked_for_again_however_old_it_is(
    client: FakeBigQuery, search: LoadJobSearch
) -> None:
    created = DAY_AFTER + MINUTE
    client.jobs = [a_query(DAY_AFTER + timedelta(hours=9)), load_job("ours", state="RUNNING", created=created)]
    assert search.look() is None
    client.jobs = [load_job("ours", created=created)]
    assert search.look() == "ours"
    assert client.listed[1]["min_creation_time"] == created


def test_where_no_job_was_made_the_next_look_begins_where_the_first_did(
    client: FakeBigQuery, search: LoadJobSearch
) -> None:
    assert [search.look(), search.look()] == [None, None]
    assert {each["min_creation_time"] for each in client.listed} == {DAY_AFTER}


@pytest.mark.parametrize("table", ["batch_timestamp", "batch_timestamp$20210430"])
def test_a_load_of_the_table_or_of_the_days_partition_is_found(find: Callable[..., str | None], table: str) -> None:
    assert find(load_job("other", "another"), load_job("ours", table)) == "ours"


@pytest.mark.parametrize(
    "job",
    [
        load_job("another table", "batch_timestamp_2"),
        load_job("another day", "batch_timestamp$20210429"),
        load_job("failed", error="no such file"),
        load_job("not ended", state="RUNNING"),
        a_query(DAY_AFTER),
    ],
    ids=lambda job: job.job_id,
)
def test_no_other_job_fills_the_day(find: Callable[..., str | None], job: Any) -> None:
    assert find(job) is None


def test_a_load_that_left_the_day_empty_is_not_the_one(find: Callable[..., str | None]) -> None:
    assert find(load_job("ours"), rows=0) is None


def test_a_load_job_is_waited_for_until_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, None, "job_42"])
    searches: list[LoadJobSearch] = []

    def look(search: LoadJobSearch) -> str | None:
        searches.append(search)
        return next(answers)

    monkeypatch.setattr(LoadJobSearch, "look", look)
    trigger = LoadJobTrigger.of(
        AwaitedLoad(project="rejeu-test", table=TABLE, event_time="timestamp", partition="2021-04-30", poll_seconds=0.0)
    )
    assert fired(revive(trigger)) == {"job_id": "job_42"}
    assert searches == [searches[0]] * 3
