"""Senses that a table was loaded by somebody else: a look at BigQuery's own list of load jobs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from google.cloud import bigquery

from rejeu.bigquery import sql
from rejeu.gcp.clients import bigquery_client

TIMEOUT_SECONDS = 60.0


def find_load_job(project: str, table: str, event_time: str, partition: str) -> str | None:
    """The id of a successful load job that ended after the partition's day and left rows in it; else None.

    Jobs of other people are listed only with bigquery.jobs.listAll; BigQuery keeps them for 180 days.
    """
    client = bigquery_client(project)
    day = date.fromisoformat(partition)
    ended_after = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    jobs = client.list_jobs(all_users=True, state_filter="done", min_creation_time=ended_after, timeout=TIMEOUT_SECONDS)
    for job in jobs:
        if isinstance(job, bigquery.LoadJob) and job.error_result is None and _fills(job, table, partition):
            return job.job_id if _has_rows(client, table, event_time, day) else None
    return None


def _fills(job: bigquery.LoadJob, table: str, partition: str) -> bool:
    """Whether the job wrote the table, or this partition of it by decorator (`table$20210430`)."""
    destination = job.destination
    name, _, decorator = destination.table_id.partition("$")
    same = f"{destination.project}.{destination.dataset_id}.{name}" == table
    return same and decorator in ("", partition.replace("-", ""))


def _has_rows(client: bigquery.Client, table: str, event_time: str, day: date) -> bool:
    configuration = bigquery.QueryJobConfig(query_parameters=[bigquery.ScalarQueryParameter("day", "DATE", day)])
    query = client.query(sql.measure_partition(table, event_time), job_config=configuration, timeout=TIMEOUT_SECONDS)
    (row,) = query.result(timeout=TIMEOUT_SECONDS)
    return bool(row["row_count"])
