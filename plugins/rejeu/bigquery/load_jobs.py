"""Senses that a table was loaded by somebody else: looks at BigQuery's own list of load jobs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from google.cloud import bigquery

from rejeu.bigquery import sql
from rejeu.gcp.clients import bigquery_client

TIMEOUT_SECONDS = 60.0
OVERLAP: Final = timedelta(minutes=5)
"""How far before the newest job the next look begins: a list may show a job later than one that was made after it."""


class LoadJobSearch:
    """Looks again and again for a successful load job that ended after the partition's day and left rows in it.

    The first look goes through all jobs since that day, each further one through those that are new, or had not
    ended. Jobs of other people are listed only with bigquery.jobs.listAll; BigQuery keeps them for 180 days.
    """

    def __init__(self, project: str, table: str, event_time: str, partition: str) -> None:
        self._project, self._table, self._event_time, self._partition = project, table, event_time, partition
        self._day = date.fromisoformat(partition)
        self._since = datetime(self._day.year, self._day.month, self._day.day, tzinfo=UTC) + timedelta(days=1)

    def look(self) -> str | None:
        """The job's id; None where there is none yet."""
        client = bigquery_client(self._project)
        jobs = client.list_jobs(all_users=True, min_creation_time=self._since, timeout=TIMEOUT_SECONDS)
        newest, under_way = self._since, []
        filled: str | None = None
        for job in jobs:
            newest = max(newest, (job.created or newest) - OVERLAP)
            if not isinstance(job, bigquery.LoadJob) or not self._fills(job):
                continue
            if job.state != "DONE":
                under_way.append(job.created or self._since)
            elif job.error_result is None:
                filled = filled or job.job_id
        if filled is not None and self._has_rows(client):
            return filled
        self._since = min([newest, *under_way])
        return None

    def _fills(self, job: bigquery.LoadJob) -> bool:
        """Whether the job writes the table, or this partition of it by decorator (`table$20210430`)."""
        destination = job.destination
        name, _, decorator = destination.table_id.partition("$")
        same = f"{destination.project}.{destination.dataset_id}.{name}" == self._table
        return same and decorator in ("", self._partition.replace("-", ""))

    def _has_rows(self, client: bigquery.Client) -> bool:
        day = bigquery.ScalarQueryParameter("day", "DATE", self._day)
        configuration = bigquery.QueryJobConfig(query_parameters=[day])
        statement = sql.measure_partition(self._table, self._event_time)
        query = client.query(statement, job_config=configuration, timeout=TIMEOUT_SECONDS)
        (row,) = query.result(timeout=TIMEOUT_SECONDS)
        return bool(row["row_count"])
