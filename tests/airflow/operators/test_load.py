"""A prepared day is loaded by BigQuery's own jobs, without Airflow's operator of them and its imports."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from google.api_core.exceptions import Conflict, NotFound, ServiceUnavailable
from google.cloud import bigquery

from rejeu.airflow.operators import base
from rejeu.airflow.operators.load import LoadFiles, PlaceRows
from rejeu.airflow.triggers import BigQueryJobTrigger, QueriedJob
from rejeu.airflow.triggers import load as load_trigger
from rejeu.errors import SourceError
from rejeu.spec.model import StreamSpec
from tests.airflow.builders import a_run, carry_out, fired

PLANNED = {
    "files": "gs://raw/rejeu/staging/crypto_rates/2021-04-30/1/rows-*.ndjson",
    "staging": {"projectId": "rejeu-test", "datasetId": "rejeu_staging", "tableId": "crypto_rates_20210430"},
    "schema": [{"name": "rate", "type": "FLOAT64", "mode": "REQUIRED"}],
    "merge": "MERGE ...",
}
RUNNING, DONE = SimpleNamespace(state="RUNNING"), SimpleNamespace(state="DONE", error_result=None, errors=None)
FAILED = SimpleNamespace(
    state="DONE",
    error_result={"reason": "invalid", "message": "no such column"},
    errors=[{"message": "no such column"}, {"message": "line 3 of rows-00.ndjson"}],
)


WAITED = QueriedJob(project="rejeu-test", location="US", job_id="a")


class FakeJobs:
    """BigQuery's jobs: what is started is remembered, and each look gives the next of the answers."""

    def __init__(self) -> None:
        self.started: dict[str, tuple[Any, ...]] = {}
        self.configurations: list[Any] = []
        self.answers: list[Any] = [DONE]
        self.begun: Any = RUNNING

    def load_table_from_uri(self, files: str, table: str, *, job_id: str, location: str, job_config: Any) -> Any:
        self.configurations.append(job_config)
        return self._start(job_id, files, table)

    def query(self, statement: str, *, job_id: str, location: str, job_retry: None) -> Any:
        return self._start(job_id, statement)

    def get_job(self, job_id: str, *, location: str, timeout: float = 0) -> Any:
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return found

    def _start(self, job_id: str, *what: str) -> Any:
        if job_id in self.started:
            raise Conflict("already exists")
        self.started[job_id] = what
        return self.begun


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    fake = FakeJobs()
    monkeypatch.setattr(base.StreamOperator, "bigquery", lambda self: fake)
    monkeypatch.setattr(load_trigger, "bigquery_client", lambda project: fake)
    monkeypatch.setattr(load_trigger, "AWAY_SECONDS", 0.0)
    monkeypatch.setattr(load_trigger, "POLL_SECONDS", 0.0)
    return fake


@pytest.fixture
def load(spec: StreamSpec) -> LoadFiles:
    return LoadFiles(task_id="load_rows", spec=spec, kind="rows")


def run(attempt: int = 1) -> Any:
    def pull(task_ids: str) -> Any:
        return {"prepare": {"rows": PLANNED, "dead": PLANNED}}[task_ids]

    return a_run() | {"ti": SimpleNamespace(try_number=attempt, xcom_pull=pull)}


def test_files_are_loaded_into_the_staging_table_which_they_replace(load: LoadFiles, jobs: FakeJobs) -> None:
    job_id = carry_out(load, run())
    assert jobs.started == {job_id: (PLANNED["files"], "rejeu-test.rejeu_staging.crypto_rates_20210430")}
    (configuration,) = jobs.configurations
    assert configuration.write_disposition == "WRITE_TRUNCATE"
    assert configuration.source_format == "NEWLINE_DELIMITED_JSON"
    assert configuration.schema == [bigquery.SchemaField("rate", "FLOAT64", mode="REQUIRED")]


def test_staged_rows_are_put_in_place_by_the_planned_statement(spec: StreamSpec, jobs: FakeJobs) -> None:
    job_id = carry_out(PlaceRows(task_id="place_rows", spec=spec, kind="rows"), run())
    assert jobs.started == {job_id: ("MERGE ...",)}


def test_the_wait_takes_no_slot_and_survives_the_triggerer(load: LoadFiles, jobs: FakeJobs) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        load.execute(run())
    path, arguments = deferred.value.trigger.serialize()
    assert path == "rejeu.airflow.triggers.BigQueryJobTrigger"
    assert json.loads(json.dumps(arguments)) == arguments
    assert all(isinstance(value, str) for value in arguments.values())


def test_a_job_that_is_done_at_once_is_not_waited_for(load: LoadFiles, jobs: FakeJobs) -> None:
    jobs.begun = DONE
    assert load.execute(run()) in jobs.started


def test_a_job_that_failed_fails_the_task_with_all_that_bigquery_says(load: LoadFiles, jobs: FakeJobs) -> None:
    jobs.answers = [RUNNING, FAILED]
    with pytest.raises(SourceError, match=r"no such column; line 3 of rows-00\.ndjson; mend what it names"):
        carry_out(load, run())


def test_a_try_that_heard_no_answer_adopts_its_own_job(load: LoadFiles, jobs: FakeJobs) -> None:
    first = carry_out(load, run())
    assert carry_out(load, run()) == first


def test_a_task_that_is_cleared_loads_indeed(load: LoadFiles, jobs: FakeJobs) -> None:
    assert carry_out(load, run()) != carry_out(load, run(attempt=2))
    assert len(jobs.started) == 2


@pytest.mark.parametrize("away", [ServiceUnavailable("503"), OSError("no route")])
def test_a_job_goes_on_while_bigquery_does_not_answer(jobs: FakeJobs, away: Exception) -> None:
    jobs.answers = [away, RUNNING, DONE]
    assert fired(BigQueryJobTrigger.of(WAITED)) == {"job_id": "a", "error": ""}


def test_a_job_that_is_gone_says_so(jobs: FakeJobs) -> None:
    jobs.answers = [NotFound("no such job")]
    assert "no such job" in fired(BigQueryJobTrigger.of(WAITED))["error"]


def test_a_refused_job_says_what_to_look_at(load: LoadFiles, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise NotFound("no such dataset")

    monkeypatch.setattr(jobs, "load_table_from_uri", refuse)
    with pytest.raises(SourceError, match="no such dataset; look at the account's rights"):
        load.execute(run())
