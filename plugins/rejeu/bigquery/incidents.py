"""Reads the table of incidents; the watchdog writes it."""

from __future__ import annotations

from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from rejeu.bigquery import sql
from rejeu.bigquery.records import IncidentRow
from rejeu.errors import SourceError
from rejeu.gcp.errors import asking_google

TIMEOUT_SECONDS = 60.0


def recent_incidents(client: bigquery.Client, table: str, stream: str | None, limit: int) -> list[IncidentRow] | None:
    """The last incidents of a stream, or of all, newest first; None without a table.

    Raises SourceError where BigQuery cannot be asked, or has a row that another version of Rejeu wrote.
    """
    remedy = "the caller needs roles/bigquery.dataViewer on its dataset and roles/bigquery.jobUser"
    with asking_google(SourceError, f"table {table} cannot be read", remedy):
        try:
            client.get_table(table, timeout=TIMEOUT_SECONDS)
        except NotFound:
            return None
        query = sql.newest_incidents(table, list(IncidentRow.model_fields))
        job = client.query(query, job_config=_parameters(stream, limit), timeout=TIMEOUT_SECONDS)
        return [IncidentRow.read(table, dict(row)) for row in job.result(timeout=TIMEOUT_SECONDS)]


def _parameters(stream: str | None, limit: int) -> bigquery.QueryJobConfig:
    return bigquery.QueryJobConfig(
        query_parameters=[
            bigquery.ScalarQueryParameter("stream", "STRING", stream),
            bigquery.ScalarQueryParameter("most", "INT64", limit),
        ]
    )
