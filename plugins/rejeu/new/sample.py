"""What `rejeu new` looks at: a table's or a file's columns and first rows, never more; what they mean is not here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery
from google.cloud.bigquery.table import RowIterator

from rejeu.bigquery.columns import from_api, from_arrow
from rejeu.errors import SourceError
from rejeu.gcp.clients import RETRY_SECONDS, bigquery_client, finite_retry
from rejeu.replay.source.files import file_schema, first_rows
from rejeu.replay.source.times import event_times
from rejeu.spec.columns import Column
from rejeu.spec.types import TimeUnit
from rejeu.target import Target

SAMPLE_ROWS: Final = 10_000
SAMPLE_BYTES: Final = 50_000_000
"""Fewer rows where they are large."""
VIEW_BYTES: Final = 1_000_000_000
"""What a look at a view may read: BigQuery bills it, whatever LIMIT says."""
STORED: Final = frozenset({"TABLE", "SNAPSHOT"})
"""Kinds of tables whose first rows BigQuery lists for nothing; the others are views of a kind and are queried."""


@dataclass(frozen=True)
class Sample:
    """A source's columns, in BigQuery's words, and its first rows, as Arrow; JSON has its times as text."""

    columns: tuple[Column, ...]
    rows: pa.Table
    total: int | None = None
    """How many rows there are, where that is known without reading them."""
    partitioned_by: str | None = None

    def times(self, name: str, unit: TimeUnit | None) -> pa.ChunkedArray:
        """A column as the replay reads event times, in microseconds since the epoch.

        Raises RowError and SourceError where the replay could not.
        """
        return event_times(self.values(name), name, unit)

    def values(self, name: str) -> pa.ChunkedArray:
        """A column's values; JSON has none at all of some."""
        if name in self.rows.column_names:
            return self.rows[name]
        return pa.chunked_array([pa.nulls(self.rows.num_rows)])


def look(table: str | None, file: str | None, target: Callable[[], Target]) -> Sample:
    """A sample of either. Raises SourceError where it is missing, or cannot be read.

    The target is asked for nothing but the project and the bucket, and not at all where the file is of this machine.
    """
    if table is not None:
        return _of_table(target().table(table), target().project)
    if file is None or not file.startswith("gs://"):
        return _of_files(file or "", None)
    return _of_files(file.replace("{bucket}", target().bucket), target().project)


def _of_files(pattern: str, project: str | None) -> Sample:
    rows = first_rows(pattern, project, SAMPLE_ROWS)
    return Sample(from_arrow(file_schema(pattern, project)), rows)


def _of_table(name: str, project: str) -> Sample:
    client = bigquery_client(project)
    try:
        table = client.get_table(name, retry=finite_retry(), timeout=RETRY_SECONDS)
        stored = table.table_type in STORED
        found = _listed(client, table) if stored else _queried(client, name)
        rows = found.to_arrow(create_bqstorage_client=False)
    except GoogleAPICallError as error:
        raise SourceError(f"table {name} cannot be read: {error.message}; check its name and your rights") from None
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
