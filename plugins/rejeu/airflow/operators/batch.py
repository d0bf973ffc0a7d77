"""The operators of `<stream>.batch`: prepare a partition's files, wait for somebody else's load, measure the result."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from rejeu.airflow.operators.base import JobOperator, StreamOperator
from rejeu.airflow.triggers import AwaitedLoad, LoadJobTrigger
from rejeu.bigquery import sql
from rejeu.errors import RequestError, SourceError
from rejeu.jobs.build import batch_job_request
from rejeu.ports import JobState
from rejeu.spec.columns import DEAD_LETTER_COLUMNS
from rejeu.spec.model import Batch
from rejeu.target import Left
from rejeu.timeline import format_instant

if TYPE_CHECKING:
    from airflow.sdk import Context

BACKFILL: Final = "backfill"
"""The type of run that Airflow gives to each day of a backfill."""
LOAD_JOB_LIMIT = timedelta(hours=12)
LOAD_JOB_POLL_SECONDS = 10.0


def partition_of(context: Context) -> str:
    """The day this run is about: the form's, else the first of the data interval. Raises RequestError for neither."""
    given = context["params"].get("partition")
    if given:
        return date.fromisoformat(str(given)).isoformat()
    start = context.get("data_interval_start")
    if start is None:
        raise RequestError("partition is empty and the run has no data interval: give the day, such as 2021-04-30")
    return str(start.date().isoformat())


class BatchOperator(StreamOperator):
    """A task about one partition of the batch table."""

    @property
    def batch(self) -> Batch:
        assert self.spec.batch is not None, "a batch DAG is made only for a spec with a batch"
        return self.spec.batch

    @property
    def table(self) -> str:
        return self.target.table(self.batch.table)


class PreparePartition(BatchOperator, JobOperator):
    """Runs the pipeline's transform over the day's raw files, for the load jobs that follow.

    Its result names what those need: files, staging tables, schemas and the statements that put rows in place.
    """

    awaited = JobState.SUCCEEDED

    def execute(self, context: Context) -> Any:
        self.forget_old(Left.STAGING)
        partition = partition_of(context)
        request = batch_job_request(self.spec, self.target, self.batch.files, partition, self._folder(context))
        return self.start(context, request)

    def finish(self, context: Context) -> dict[str, Any]:
        from rejeu.replay.source.columns import output_columns

        partition = partition_of(context)
        day = partition.replace("-", "")
        staging = f"{self.target.staging}.{self.spec.stream}_{day}"
        columns = output_columns(self.spec, self.target, self.bigquery())
        place = {
            "rows": (staging, self.table, columns, sql.is_day(self.spec.event_time, partition)),
            "dead": (
                f"{staging}_dead",
                self.target.table(self.spec.dead_letters),
                DEAD_LETTER_COLUMNS,
                sql.is_from_files(self.spec.stream, self.target.expand(self.batch.files, partition=partition)),
            ),
        }
        return {
            kind: {
                "files": f"{self._folder(context)}/{kind}-*.ndjson",
                "staging": dict(zip(("projectId", "datasetId", "tableId"), name.split("."), strict=True)),
                "schema": [column.to_api() for column in kind_columns],
                "merge": sql.replace_slice(table, name, [column.name for column in kind_columns], condition),
            }
            for kind, (name, table, kind_columns, condition) in place.items()
        }

    def _folder(self, context: Context) -> str:
        """A folder of this run's own: files of an earlier try never mix with these."""
        run = hashlib.blake2b(str(context["run_id"]).encode(), digest_size=6).hexdigest()
        return f"{self.target.left_by(Left.STAGING)}/{self.spec.stream}/{partition_of(context)}/{run}"


class AwaitLoadJob(BatchOperator):
    """Waits, without a worker slot, until a load job outside Airflow has filled the day."""

    def execute(self, context: Context) -> None:
        self.defer(
            trigger=LoadJobTrigger.of(
                AwaitedLoad(
                    project=self.target.project,
                    table=self.table,
                    event_time=self.spec.event_time,
                    partition=partition_of(context),
                    poll_seconds=LOAD_JOB_POLL_SECONDS,
                )
            ),
            method_name="resume",
            timeout=LOAD_JOB_LIMIT,
        )

    def resume(self, context: Context, event: dict[str, str]) -> str:
        self.log.info("%s: load job %s filled %s", self.spec.stream, event["job_id"], partition_of(context))
        return event["job_id"]


class MeasureBatch(BatchOperator):
    """Says that the batch has ended: its last instant and row count, as the asset event that starts the live DAG.

    Skips in a backfill, whose days end in any order, many at a time: none of them starts the stream.
    """

    def __init__(self, *, asset: Asset, **kwargs: Any) -> None:
        super().__init__(outlets=[asset], **kwargs)
        self.asset = asset

    def execute(self, context: Context) -> dict[str, Any]:
        from google.cloud import bigquery

        partition = partition_of(context)
        day = bigquery.ScalarQueryParameter("day", "DATE", partition)
        client = self.bigquery()
        job = client.query(
            sql.measure_partition(self.table, self.spec.event_time),
            job_config=bigquery.QueryJobConfig(query_parameters=[day]),
        )
        (row,) = job.result()
        if not row["row_count"]:
            raise SourceError(
                f"{self.spec.stream}: partition {partition} of {self.table} is empty after its load: look whether "
                f"{self.batch.files} holds rows that the pipeline {self.spec.live.pipeline} keeps, and at "
                f"{self.spec.dead_letters}"
            )
        measured = {
            "partition": partition,
            "row_count": row["row_count"],
            "max_timestamp": format_instant(row["max_timestamp"]),
            "table_max_timestamp": format_instant(row["table_max_timestamp"]),
        }
        self.log.info("%s: batch %s", self.spec.stream, measured)
        if getattr(context.get("dag_run"), "run_type", None) == BACKFILL:
            raise AirflowSkipException(f"{self.spec.stream}: {partition} is loaded; a backfill hands nothing over")
        context["outlet_events"][self.asset].extra = measured
        return measured
