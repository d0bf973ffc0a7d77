"""The operators that load a prepared day: files into a staging table, and its rows into their place.

Airflow's own operator of BigQuery's jobs would cost each parse of the DAGs, and each task, 3 s of imports.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rejeu.airflow.operators.base import WaitingOperator
from rejeu.airflow.triggers.load import BigQueryJobTrigger, QueriedJob, why_failed
from rejeu.errors import SourceError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from google.cloud import bigquery
    from google.cloud.bigquery.job import _AsyncJob

JOB_LIMIT = timedelta(hours=12)


class BigQueryJobOperator(WaitingOperator):
    """Starts a job of BigQuery's and waits for it without a worker slot.

    A person who ends the task lets the job end by itself: it replaces a day as a whole, or not at all.
    """

    def __init__(self, *, kind: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = kind

    def execute(self, context: Context) -> Any:
        from google.api_core.exceptions import Conflict

        from rejeu.gcp.errors import asking_google

        client, job_id = self.bigquery(), self._job_id(context)
        planned = context["ti"].xcom_pull(task_ids="prepare")[self.kind]
        what, remedy = f"{self.spec.stream}: {job_id} cannot be started", "look at the account's rights, then try again"
        with asking_google(SourceError, what, remedy):
            try:
                job = self.begin(client, job_id, planned)
            except Conflict:  # this very try has started it, and heard no answer
                job = client.get_job(job_id, location=self.target.location)
        self.log.info("%s: job %s is %s", self.spec.stream, job_id, job.state)
        if job.state == "DONE":
            return self.resume(context, {"job_id": job_id, "error": why_failed(job)})
        waited = QueriedJob(project=self.target.project, location=self.target.location, job_id=job_id)
        return self.wait(context, BigQueryJobTrigger.of(waited), JOB_LIMIT)

    def resume(self, context: Context, event: dict[str, str]) -> str:
        if event["error"]:
            raise SourceError(
                f"{self.spec.stream}: BigQuery's job {event['job_id']} failed: {event['error']}; mend what it names, "
                "then clear this task"
            )
        return event["job_id"]

    def begin(self, client: bigquery.Client, job_id: str, planned: dict[str, Any]) -> _AsyncJob:
        """Start the job that `prepare` has planned, by this name. Raises Conflict where there is one of this name."""
        raise NotImplementedError

    def _job_id(self, context: Context) -> str:
        """One name for each try: a day that is loaded again, after a task was cleared, is loaded indeed."""
        attempt = f"{context['run_id']}/{context['ti'].try_number}"
        mark = hashlib.blake2b(attempt.encode(), digest_size=8).hexdigest()
        return f"rejeu_{self.spec.stream}_{self.task_id}_{mark}"


class LoadFiles(BigQueryJobOperator):
    """Loads the day's prepared files into a staging table of the day, which it replaces."""

    def begin(self, client: bigquery.Client, job_id: str, planned: dict[str, Any]) -> _AsyncJob:
        from google.cloud import bigquery

        staging = ".".join(planned["staging"][part] for part in ("projectId", "datasetId", "tableId"))
        return client.load_table_from_uri(
            planned["files"],
            staging,
            job_id=job_id,
            location=self.target.location,
            job_config=bigquery.LoadJobConfig(
                source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
                schema=[bigquery.SchemaField.from_api_repr(column) for column in planned["schema"]],
                create_disposition=bigquery.CreateDisposition.CREATE_IF_NEEDED,
                write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            ),
        )


class PlaceRows(BigQueryJobOperator):
    """Puts the staged rows in the place of the day's, in one atomic statement."""

    def begin(self, client: bigquery.Client, job_id: str, planned: dict[str, Any]) -> _AsyncJob:
        return client.query(planned["merge"], job_id=job_id, location=self.target.location, job_retry=None)
