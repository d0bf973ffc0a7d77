"""The task of `<stream>.reconcile`: the job gets what was streamed, and what it found is remembered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from rejeu.airflow.operators import reconcile as operators
from rejeu.airflow.operators.reconcile import Reconcile
from rejeu.airflow.triggers import JobTrigger
from rejeu.bigquery.records import ReconciliationRow
from rejeu.errors import LaunchError, RequestError
from rejeu.gcp.small_files import write_text
from rejeu.jobs.request import ReconcileRequest
from rejeu.ports import JobState
from rejeu.reconcile import Reconciliation, Span, read_done
from rejeu.spec.model import StreamSpec
from rejeu.testing import FakeLauncher, MemoryStore
from rejeu.timeline import Position, to_us
from tests.airflow.builders import STREAM, FakeBigQuery, a_run, carry_out, remember
from tests.fakes.storage_server import StorageServer

BEGAN = datetime(2021, 5, 1, tzinfo=UTC)
REACHED = BEGAN + timedelta(hours=2)
WHOLE = Span(from_time=BEGAN, until_time=REACHED)


@pytest.fixture(autouse=True)
def no_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports lie in a folder."""
    monkeypatch.setenv("REJEU_BUCKET", "")


@pytest.fixture
def reconcile(spec: StreamSpec, bigquery: FakeBigQuery) -> Reconcile:
    return Reconcile(task_id="reconcile", spec=spec)


@pytest.fixture
def streamed(store: MemoryStore) -> None:
    """Two hours of the stream are published."""
    remember(store, since=Position(to_us(BEGAN)), cursor=Position(to_us(REACHED), 2))


def found(still_missing: int = 0, **changes: Any) -> Reconciliation:
    """A report of those two hours, in which three rows were missing at first."""
    counts = {"minutes": 120, "expected": 900, "found": 897, "missing": 3, "healed": 3 - still_missing}
    others = {"still_missing": still_missing, "doubles": 1, "unexpected": 0, "dead_letters": 2}
    span = {"from_time": BEGAN, "until_time": REACHED, "checked_at": REACHED}
    return Reconciliation.model_validate({"stream": STREAM, **span, **counts, **others, **changes})


@pytest.fixture
def ended(launcher: FakeLauncher) -> Callable[..., Callable[[], None]]:
    """The job ends so, and leaves this report."""

    def later(report: Reconciliation | None, state: JobState = JobState.SUCCEEDED, detail: str = "") -> Any:
        def end() -> None:
            request = launcher.started[-1]
            assert isinstance(request, ReconcileRequest)
            assert request.report is not None
            if report is not None:
                write_text(request.report, report.model_dump_json())
            launcher.end(request.job_name, state, detail)

        return end

    return later


Ended = Callable[..., Callable[[], None]]


# The job


@pytest.mark.usefixtures("streamed")
def test_what_is_published_again_does_not_go_where_nobody_reads(reconcile: Reconcile, made_sure: list[str]) -> None:
    with pytest.raises(TaskDeferred):
        reconcile.execute(a_run())
    assert made_sure == [STREAM]


@pytest.mark.usefixtures("streamed")
def test_the_job_gets_the_replays_own_source_and_what_was_streamed(
    reconcile: Reconcile, launcher: FakeLauncher
) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        reconcile.execute(a_run())
    assert isinstance(deferred.value.trigger, JobTrigger)
    (request,) = launcher.started
    assert isinstance(request, ReconcileRequest)
    assert request.job_name == "rejeu-reconcile-crypto-rates"
    assert (request.table, request.event_time) == ("crypto_band.oracle_requests", "block_timestamp_truncated")
    assert request.key == ("oracle_request_id",)
    assert (request.from_, request.until) == (BEGAN, REACHED)
    assert request.streaming_table == "rejeu-test.temp_crypto_batch.streaming_timestamp"
    assert request.streaming_time == "timestamp"
    assert request.dead_letters == "rejeu-test.temp_crypto_batch.dead_letters"
    assert request.settle_seconds == 30


@pytest.mark.usefixtures("streamed")
def test_a_window_of_the_form_is_compared(reconcile: Reconcile, launcher: FakeLauncher) -> None:
    with pytest.raises(TaskDeferred):
        reconcile.execute(a_run(params={"from": "2021-05-01T00:30:00Z", "until": "2021-05-01T03:00:00+02:00"}))
    (request,) = launcher.started
    assert isinstance(request, ReconcileRequest)
    assert (request.from_, request.until) == (BEGAN + timedelta(minutes=30), BEGAN + timedelta(hours=1))


@pytest.mark.usefixtures("streamed")
def test_a_window_beyond_what_was_streamed_fails_with_what_may_be_given(reconcile: Reconcile) -> None:
    with pytest.raises(RequestError, match="rows are published up to 2021-05-01T02:00"):
        reconcile.execute(a_run(params={"until": "2021-05-01T02:00:01Z"}))


@pytest.mark.usefixtures("streamed")
def test_two_runs_never_share_a_report(reconcile: Reconcile, launcher: FakeLauncher, ended: Ended) -> None:
    carry_out(reconcile, a_run(run_id="first"), ended(found()))
    with pytest.raises(TaskDeferred):
        reconcile.execute(a_run(run_id="second", params={"from": "2021-05-01T00:30:00Z"}))
    assert len({request.report for request in launcher.started if isinstance(request, ReconcileRequest)}) == 2


def test_a_stream_that_published_nothing_is_skipped(reconcile: Reconcile, launcher: FakeLauncher) -> None:
    with pytest.raises(AirflowSkipException, match="streamed anything that is not compared"):
        reconcile.execute(a_run())
    assert launcher.started == []


@pytest.mark.usefixtures("streamed")
def test_a_stream_that_somebody_else_publishes_is_skipped(
    spec_with: Callable[..., StreamSpec], launcher: FakeLauncher
) -> None:
    reconcile = Reconcile(task_id="reconcile", spec=spec_with(replay=None, watchdog={"probe": "tap"}))
    with pytest.raises(AirflowSkipException):
        reconcile.execute(a_run())
    assert launcher.started == []


# What was found


@pytest.mark.usefixtures("streamed")
def test_what_was_found_is_the_result_and_a_row(reconcile: Reconcile, bigquery: FakeBigQuery, ended: Ended) -> None:
    result = carry_out(reconcile, a_run(), ended(found()))
    assert (result["missing"], result["healed"], result["still_missing"]) == (3, 3, 0)
    ((statement, row),) = bigquery.asked
    assert statement.startswith("INSERT INTO `rejeu-test.rejeu.reconciliations`")
    assert list(row) == list(ReconciliationRow.model_fields)
    assert (row["stream"], row["dag_run_id"], row["from_time"], row["doubles"]) == (STREAM, "run-1", BEGAN, 1)


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize(
    ("counts", "subjects"),
    [
        ({"expected": 10_000, "missing": 0, "dead_letters": 10}, ["10 of 10,000 rows were not written"]),
        ({"expected": 10_000, "missing": 9_999, "dead_letters": 1}, ["10,000 of 10,000 rows were not written"]),
        ({"expected": 10_000, "missing": 4, "dead_letters": 5}, []),
        ({"expected": 0, "missing": 0, "dead_letters": 0}, []),
    ],
)
def test_a_person_is_told_of_rows_that_the_streaming_job_dropped(
    reconcile: Reconcile,
    bigquery: FakeBigQuery,
    ended: Ended,
    monkeypatch: pytest.MonkeyPatch,
    counts: dict[str, int],
    subjects: list[str],
) -> None:
    told: list[str] = []
    monkeypatch.setattr(operators, "notify", lambda context, subject, text, **_: told.append(subject))
    carry_out(reconcile, a_run(), ended(found(**counts)))
    assert told == [f"{STREAM}: {subject}" for subject in subjects]


@pytest.mark.usefixtures("streamed")
def test_the_next_run_goes_on_where_this_one_ended(reconcile: Reconcile, store: MemoryStore, ended: Ended) -> None:
    carry_out(reconcile, a_run(), ended(found()))
    assert read_done(store, STREAM) == WHOLE
    with pytest.raises(AirflowSkipException):
        reconcile.execute(a_run(run_id="second"))


@pytest.mark.usefixtures("streamed")
def test_rows_that_are_missing_still_fail_the_run_for_good_and_are_compared_again(
    reconcile: Reconcile, store: MemoryStore, bigquery: FakeBigQuery, ended: Ended
) -> None:
    failed = ended(found(still_missing=2), JobState.FAILED, "exit code 1: look whether the streaming job runs")
    with pytest.raises(AirflowFailException, match=r"2 still missing.*look whether the streaming job runs"):
        carry_out(reconcile, a_run(), failed)
    assert bigquery.asked[0][1]["still_missing"] == 2
    assert read_done(store, STREAM) is None


@pytest.mark.usefixtures("streamed")
def test_a_job_that_fails_without_a_report_fails_the_task_with_its_own_last_words(
    reconcile: Reconcile, bigquery: FakeBigQuery, ended: Ended
) -> None:
    with pytest.raises(LaunchError, match="exit code 3: table none is missing"):
        carry_out(reconcile, a_run(), ended(None, JobState.FAILED, "exit code 3: table none is missing"))
    assert bigquery.asked == []


@pytest.mark.usefixtures("streamed")
def test_a_job_of_another_run_leaves_no_report_and_is_not_taken_for_this_ones(
    reconcile: Reconcile, ended: Ended
) -> None:
    with pytest.raises(LaunchError, match="it was started for another run; clear this task"):
        carry_out(reconcile, a_run(), ended(None))


@pytest.mark.usefixtures("streamed")
def test_reports_of_long_ago_are_removed(reconcile: Reconcile, ended: Ended, forgotten: list[str]) -> None:
    carry_out(reconcile, a_run(), ended(found()))
    assert forgotten == ["reconciliations/crypto_rates"]


@pytest.mark.usefixtures("streamed")
def test_with_a_bucket_every_worker_can_read_the_report(
    reconcile: Reconcile,
    launcher: FakeLauncher,
    ended: Ended,
    cloud: StorageServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REJEU_BUCKET", "rejeu-test")
    result = carry_out(reconcile, a_run(), ended(found()))
    (request,) = launcher.started
    assert isinstance(request, ReconcileRequest)
    assert str(request.report).startswith("gs://rejeu-test/rejeu/reconciliations/crypto_rates/")
    assert result["expected"] == 900
