"""Makes sure that a stream's datasets, tables and views exist, as its spec wants them.

What exists is compared with what is wanted: a view and the clustering of a table are mended, other differences are
refused. Every function may be called again and again; nothing that exists is emptied or replaced, a view excepted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta

from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from rejeu.bigquery import compare, sql, types
from rejeu.bigquery.records import IncidentRow, ReconciliationRow
from rejeu.errors import SourceError
from rejeu.spec.columns import DEAD_LETTER_COLUMNS, ROW_ID_COLUMN, Column
from rejeu.spec.model import StreamSpec
from rejeu.target import Target

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 60.0
STAGING_EXPIRATION = timedelta(days=1)


def ensure_tables(client: bigquery.Client, spec: StreamSpec, target: Target, columns: Sequence[Column]) -> None:
    """Create datasets, batch and streaming table, dead letters, incidents, reconciliations, and the views on them."""
    streaming = target.table(spec.live.table)
    ensure_table(client, target, streaming, (*columns, ROW_ID_COLUMN), spec.event_time, spec.cluster)
    batch = target.table(spec.batch.table) if spec.batch else None
    if batch is not None:
        ensure_table(client, target, batch, columns, spec.event_time, spec.cluster)
        # Each day's load leaves two tables there, which expire.
        _ensure_dataset(client, target, target.staging, expiration=STAGING_EXPIRATION)
    ensure_table(client, target, target.table(spec.dead_letters), DEAD_LETTER_COLUMNS, "failed_at")
    ensure_table(client, target, target.incidents, IncidentRow.columns(), IncidentRow.DAY)
    ensure_table(client, target, target.reconciliations, ReconciliationRow.columns(), ReconciliationRow.DAY)
    live, names = target.table(spec.view), [column.name for column in columns]
    windows = spec.pipeline.windows
    if windows is None:
        ensure_view(client, target, live, sql.live_view(streaming, batch, spec.event_time, names))
    else:
        ensure_view(client, target, live, sql.final_rows(streaming, batch, windows, names))
    for each in spec.pipeline.views:
        ensure_view(client, target, f"{streaming}_{each.name}", each.query.format(live=f"`{live}`"))


def ensure_view(client: bigquery.Client, target: Target, name: str, query: str) -> None:
    """Create the view, or give it this query. Raises SourceError where a table has its name."""
    view = bigquery.Table(name)
    view.view_query = query
    _ensure_dataset(client, target, name.rpartition(".")[0])
    try:
        found = client.get_table(view.reference, timeout=TIMEOUT_SECONDS)
        if found.table_type != "VIEW":
            rule = f"{name} is a {str(found.table_type).lower()}, and must be a view"
            raise SourceError(f"{rule}: drop or rename it, or name another view in the spec")
        if found.view_query != view.view_query:
            client.update_table(view, ["view_query"], timeout=TIMEOUT_SECONDS)
    except NotFound:
        client.create_table(view, exists_ok=True, timeout=TIMEOUT_SECONDS)
        log.info("created view %s", name)


def ensure_table(
    client: bigquery.Client,
    target: Target,
    name: str,
    columns: Sequence[Column],
    day_column: str,
    cluster: Sequence[str] = (),
) -> None:
    """Create the table if it is missing, partitioned by day if the column's type allows that.

    One that exists gets the clustering that is wanted. Raises SourceError where it is otherwise different: whether to
    add a column, or to write a table anew, is its owner's decision.
    """
    _ensure_dataset(client, target, name.rpartition(".")[0])
    table = bigquery.Table(name, schema=[bigquery.SchemaField.from_api_repr(column.to_api()) for column in columns])
    day_type = next((types.find(column.type) for column in columns if column.name == day_column), None)
    if day_type is not None and day_type.is_day:
        table.time_partitioning = bigquery.TimePartitioning(field=day_column)
    if cluster:
        table.clustering_fields = list(cluster)
    try:
        found = client.get_table(name, timeout=TIMEOUT_SECONDS)
    except NotFound:
        client.create_table(table, exists_ok=True, timeout=TIMEOUT_SECONDS)
        log.info("created table %s", name)
        return
    if reason := compare.refusal(found, table, columns):
        raise SourceError(reason)
    if compare.other_clustering(found, table):
        client.update_table(table, ["clustering_fields"], timeout=TIMEOUT_SECONDS)
        log.warning("table %s was clustered by %s: mended", name, found.clustering_fields)


def _ensure_dataset(client: bigquery.Client, target: Target, name: str, expiration: timedelta | None = None) -> None:
    wanted = bigquery.Dataset(name)
    wanted.location = target.location
    if expiration is not None:
        wanted.default_table_expiration_ms = expiration // timedelta(milliseconds=1)
    try:
        client.get_dataset(wanted.reference, timeout=TIMEOUT_SECONDS)
    except NotFound:
        client.create_dataset(wanted, exists_ok=True, timeout=TIMEOUT_SECONDS)
        log.info("created dataset %s", name)
