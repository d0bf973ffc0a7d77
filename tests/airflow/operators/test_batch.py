"""The tasks of `<stream>.batch`: a day's files are prepared, loaded by us or by others, and measured."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import Asset
from airflow.sdk.api.datamodels._generated import DagRunType
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from rejeu.airflow.operators.batch import AwaitLoadJob, MeasureBatch, PreparePartition, partition_of
from rejeu.airflow.triggers import JobTrigger, LoadJobTrigger
from rejeu.errors import LaunchError, RequestError, SourceError
from rejeu.jobs.request import BatchJobRequest
from rejeu.ports import JobState
from rejeu.spec.model import StreamSpec
from rejeu.testing import FakeLauncher
from tests.airflow.builders import DAY, LAST_ROW, FakeBigQuery, a_run, carry_out, measured

ASSET = Asset(name="crypto_rates.batch", uri="x-rejeu://crypto_rates/batch")

End = Callable[..., Callable[[], None]]


@pytest.fixture
def prepare(spec: StreamSpec, bigquery: FakeBigQuery) -> PreparePartition:
    return PreparePartition(task_id="prepare", spec=spec)


@pytest.fixture
def measure(spec: StreamSpec) -> MeasureBatch:
    return MeasureBatch(task_id="measure", spec=spec, asset=ASSET)


# Which day


def test_a_scheduled_run_is_about_the_first_day_of_its_data_interval() -> None:
    assert partition_of(a_run(day=DAY + timedelta(hours=1))) == "2021-04-30"


def test_the_day_of_the_form_wins() -> None:
    assert partition_of(a_run(params={"partition": "2021-03-01"})) == "2021-03-01"


def test_a_run_without_a_day_says_what_to_give() -> None:
    with pytest.raises(RequestError, match="give the day, such as 2021-04-30"):
        partition_of(a_run(day=None))


# Prepare


def test_preparing_starts_the_days_job_and_gives_its_slot_back(
    prepare: PreparePartition, launcher: FakeLauncher
) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        prepare.execute(a_run())
    (request,) = launcher.started
    assert isinstance(request, BatchJobRequest)
    assert request.files == "gs://raw/crypto_rates/dt=2021-04-30/*.ndjson"
    assert isinstance(deferred.value.trigger, JobTrigger)
    assert deferred.value.timeout == timedelta(minutes=30)


def test_files_of_this_machine_are_refused_where_jobs_run_elsewhere(
    spec_with: Callable[..., StreamSpec], launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = {"BUCKET": "b", "IMAGE": "i", "JOBS_IMAGE": "j", "REGION": "europe-west1", "STATE": "gs://b/s"}
    for name, value in {"LAUNCHER": "cloud-run", **cloud}.items():
        monkeypatch.setenv(f"REJEU_{name}", value)
    batch = {"files": "/raw/{partition}/*.ndjson", "schedule": "0 1 * * *", "table": "d.batch"}
    prepare = PreparePartition(task_id="prepare", spec=spec_with(batch=batch))
    with pytest.raises(RequestError, match=r"batch\.files is '/raw/2021-04-30/\*\.ndjson': REJEU_LAUNCHER cloud-run"):
        prepare.execute(a_run())
    assert launcher.started == []


def test_what_was_prepared_long_ago_is_removed(
    prepare: PreparePartition, launcher: FakeLauncher, end: End, forgotten: list[str]
) -> None:
    carry_out(prepare, a_run(), end(None, JobState.SUCCEEDED))
    assert forgotten == ["staging/crypto_rates"]


def test_a_prepared_day_is_named_for_the_load_jobs(prepare: PreparePartition, launcher: FakeLauncher, end: End) -> None:
    planned = carry_out(prepare, a_run(), end(None, JobState.SUCCEEDED))
    (request,) = launcher.started
    assert isinstance(request, BatchJobRequest)
    rows, letters = planned["rows"], planned["dead"]
    assert rows["files"] == f"{request.output}/rows-*.ndjson"
    assert letters["files"] == f"{request.output}/dead-*.ndjson"
    assert rows["staging"] == {
        "projectId": "rejeu-test",
        "datasetId": "rejeu_staging",
        "tableId": "crypto_rates_20210430",
    }
    assert letters["staging"]["tableId"] == "crypto_rates_20210430_dead"
    assert [column["name"] for column in rows["schema"]] == ["timestamp", "request", "symbol", "rate", "date_str"]
    assert "MERGE `rejeu-test.temp_crypto_batch.batch_timestamp`" in rows["merge"]
    assert "DATE(`timestamp`) = DATE '2021-04-30'" in rows["merge"]
    assert "row_id LIKE 'gs://raw/crypto_rates/dt=2021-04-30/%.ndjson:%'" in letters["merge"]


def test_two_runs_of_one_day_never_share_a_folder(prepare: PreparePartition, end: End) -> None:
    first = carry_out(prepare, a_run(run_id="first"), end(None, JobState.SUCCEEDED))
    second = carry_out(prepare, a_run(run_id="second"), end(None, JobState.SUCCEEDED))
    assert first["rows"]["files"] != second["rows"]["files"]


def test_a_second_try_waits_for_the_job_of_the_first(prepare: PreparePartition, launcher: FakeLauncher) -> None:
    for attempt in (1, 2):
        with pytest.raises(TaskDeferred):
            prepare.execute(a_run(attempt=attempt))
    assert len(launcher.started) == 1


def test_a_failed_job_fails_the_task_with_its_own_last_words(prepare: PreparePartition, end: End) -> None:
    with pytest.raises(LaunchError, match=r"^exit code 3: no file matches \(.* is failed, and should be succeeded\)$"):
        carry_out(prepare, a_run(), end(None, JobState.FAILED, "exit code 3: no file matches"))


def test_a_job_that_somebody_stopped_leaves_half_a_day_and_is_not_loaded(prepare: PreparePartition, end: End) -> None:
    with pytest.raises(LaunchError, match="is stopped, and should be succeeded"):
        carry_out(prepare, a_run(), end(None, JobState.STOPPED))


def test_a_job_whose_record_is_gone_fails_the_task(prepare: PreparePartition, launcher: FakeLauncher) -> None:
    with pytest.raises(LaunchError, match="no record of it is on"):
        carry_out(prepare, a_run(), launcher.jobs.clear)


def test_a_killed_task_stops_its_job(prepare: PreparePartition, launcher: FakeLauncher) -> None:
    with pytest.raises(TaskDeferred):
        prepare.execute(a_run())
    prepare.on_kill()
    assert launcher.stopped == [request.job_name for request in launcher.started]


def test_a_task_that_is_killed_before_its_job_began_stops_nothing(
    prepare: PreparePartition, launcher: FakeLauncher
) -> None:
    prepare.on_kill()
    assert launcher.stopped == []


# Loaded elsewhere


def test_a_load_by_others_is_awaited_without_a_slot(spec: StreamSpec) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        AwaitLoadJob(task_id="await_load_job", spec=spec).execute(a_run())
    assert isinstance(deferred.value.trigger, LoadJobTrigger)
    asked = deferred.value.trigger.arguments
    assert (asked.project, asked.table) == ("rejeu-test", "rejeu-test.temp_crypto_batch.batch_timestamp")
    assert (asked.event_time, asked.partition) == ("timestamp", "2021-04-30")


def test_the_load_by_others_is_named(spec: StreamSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rejeu.bigquery.load_jobs.LoadJobSearch.look", lambda self: "job_42")
    assert carry_out(AwaitLoadJob(task_id="await_load_job", spec=spec), a_run()) == "job_42"


# Measure


def test_the_end_of_the_batch_is_an_event_that_says_its_last_instant(
    measure: MeasureBatch, bigquery: FakeBigQuery
) -> None:
    later = LAST_ROW + timedelta(days=3)
    bigquery.rows = [measured(1000) | {"table_max_timestamp": later}]
    run = a_run()
    measure.execute(run)
    assert run["outlet_events"][ASSET].extra == {
        "partition": "2021-04-30",
        "row_count": 1000,
        "max_timestamp": "2021-04-30T23:59:58.500000Z",
        "table_max_timestamp": "2021-05-03T23:59:58.500000Z",
    }
    assert [parameters for _, parameters in bigquery.asked] == [{"day": date(2021, 4, 30)}]
    assert measure.outlets == [ASSET]


def test_a_day_of_a_backfill_is_measured_and_starts_no_stream(measure: MeasureBatch, bigquery: FakeBigQuery) -> None:
    bigquery.rows = [measured(1000)]
    run = a_run() | {"dag_run": SimpleNamespace(run_type=DagRunType.BACKFILL, conf={})}
    with pytest.raises(AirflowSkipException, match="2021-04-30 is loaded; a backfill hands nothing over"):
        measure.execute(run)
    assert len(run["outlet_events"]) == 0


def test_an_empty_day_hands_nothing_over(measure: MeasureBatch, bigquery: FakeBigQuery) -> None:
    bigquery.rows = [measured(0, None)]
    run = a_run()
    with pytest.raises(SourceError, match=r"partition 2021-04-30 .* is empty .* temp_crypto_batch.dead_letters"):
        measure.execute(run)
    assert len(run["outlet_events"]) == 0
