"""A look at a table or a view of BigQuery, which must not cost much."""

from __future__ import annotations

from typing import Final

from google.cloud import bigquery
from google.cloud.bigquery.table import RowIterator

from rejeu.bigquery.columns import from_api
from rejeu.errors import SourceError
from rejeu.gcp.clients import RETRY_SECONDS, bigquery_client, finite_retry
from rejeu.gcp.errors import asking_google
from rejeu.new.sample import SAMPLE_ROWS, Sample

SAMPLE_BYTES: Final = 50_000_000
"""Fewer rows where they are large."""
VIEW_BYTES: Final = 1_000_000_000
"""What a look at a view may read: BigQuery bills it, whatever LIMIT says."""
STORED: Final = frozenset({"TABLE", "SNAPSHOT"})
"""Kinds of tables whose first rows BigQuery lists for nothing; the others are views of a kind and are queried."""


def sample_of_table(name: str, project: str) -> Sample:
    """Its first rows. Raises SourceError where it is missing, cannot be read, or is a view that is dear to look at."""
    client = bigquery_client(project)
    with asking_google(SourceError, f"table {name} cannot be read", "check its name and your rights"):
        table = client.get_table(name, retry=finite_retry(), timeout=RETRY_SECONDS)
        stored = table.table_type in STORED
        found = _listed(client, table) if stored else _queried(client, name)
        rows = found.to_arrow(create_bqstorage_client=False)
    partitioned_by = table.time_partitioning.field if table.time_partitioning else None
    return Sample(from_api(found.schema), rows, table.num_rows if stored else None, partitioned_by)


def _listed(client: bigquery.Client, table: bigquery.Table) -> RowIterator:
    fitting = SAMPLE_BYTES * table.num_rows // table.num_bytes if table.num_rows and table.num_bytes else SAMPLE_ROWS
    return client.list_rows(table, max_results=max(1, min(SAMPLE_ROWS, fitting)), retry=finite_retry())


def _queried(client: bigquery.Client, name: str) -> RowIterator:
    """Raises SourceError where looking at the view is dear."""
    query = f"SELECT * FROM `{name}` LIMIT {SAMPLE_ROWS}"
    planned = client.query(query, job_config=bigquery.QueryJobConfig(dry_run=True), retry=finite_retry())
    if (read := planned.total_bytes_processed or 0) > VIEW_BYTES:
        rule = f"a look may cost {VIEW_BYTES / 1e9:g} GB at most"
        raise SourceError(f"view {name} reads {read / 1e9:,.1f} GB: {rule}; name the table behind it, or a file")
    bounded = bigquery.QueryJobConfig(maximum_bytes_billed=VIEW_BYTES)
    return client.query(query, job_config=bounded, retry=finite_retry()).result(timeout=RETRY_SECONDS)
