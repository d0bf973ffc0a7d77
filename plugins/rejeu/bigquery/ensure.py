"""Makes sure that a stream's datasets, tables and views exist, as its spec wants them.

What exists is compared with what is wanted: a view and the clustering of a table are mended, other differences are
refused. Every function may be called again and again; nothing that exists is emptied or replaced, a view excepted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from rejeu.bigquery import compare, sql, types
from rejeu.bigquery.records import IncidentRow, ReconciliationRow
from rejeu.errors import SourceError
from rejeu.gcp.clients import finite_retry
from rejeu.gcp.errors import asking_google
from rejeu.spec.columns import DEAD_LETTER_COLUMNS, ROW_ID_COLUMN, Column
from rejeu.spec.model import StreamSpec
from rejeu.target import Target

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 60.0
RIGHTS: Final = "check that the account has roles/bigquery.metadataViewer on their datasets"
STAGING_EXPIRATION = timedelta(days=1)


class _Table(NamedTuple):
    """A table as a stream wants it."""

    name: str
    columns: Sequence[Column]
    day_column: str
    cluster: Sequence[str] = ()


class _View(NamedTuple):
    """A view as a stream wants it."""

    name: str
    query: str


def ensure_tables(client: bigquery.Client, spec: StreamSpec, target: Target, columns: Sequence[Column]) -> None:
    """Create datasets, batch and streaming table, dead letters, incidents, reconciliations, and the views on them."""
    for table in _tables(spec, target, columns):
        ensure_table(client, target, *table)
    if spec.batch is not None:
        # Each day's load leaves two tables there, which expire.
        _ensure_dataset(client, target, target.staging, expiration=STAGING_EXPIRATION)
    for view in _views(spec, target, columns):
        ensure_view(client, target, *view)


def missing_tables(client: bigquery.Client, spec: StreamSpec, target: Target, columns: Sequence[Column]) -> list[str]:
    """The tables and views that `ensure_tables` would create; nothing is created or changed here.

    Raises SourceError where one exists that cannot serve the stream, or BigQuery cannot be asked.
    """
    with asking_google(SourceError, f"{spec.stream}: its tables cannot be looked at", RIGHTS):
        tables = [each.name for each in _tables(spec, target, columns) if _find_table(client, *each)[1] is None]
        return tables + [each.name for each in _views(spec, target, columns) if _find_view(client, each.name) is None]


def ensure_view(client: bigquery.Client, target: Target, name: str, query: str) -> None:
    """Create the view, or give it this query. Raises SourceError where a table has its name."""
    view = bigquery.Table(name)
    view.view_query = query
    _ensure_dataset(client, target, name.rpartition(".")[0])
    found = _find_view(client, name)
    if found is None:
        client.create_table(view, exists_ok=True, timeout=TIMEOUT_SECONDS)
        log.info("created view %s", name)
    elif found.view_query != view.view_query:
        client.update_table(view, ["view_query"], timeout=TIMEOUT_SECONDS)


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
    table, found = _find_table(client, name, columns, day_column, cluster)
    if found is None:
        client.create_table(table, exists_ok=True, timeout=TIMEOUT_SECONDS)
        log.info("created table %s", name)
    elif compare.other_clustering(found, table):
        client.update_table(table, ["clustering_fields"], timeout=TIMEOUT_SECONDS)
        log.warning("table %s was clustered by %s: mended", name, found.clustering_fields)


def _tables(spec: StreamSpec, target: Target, columns: Sequence[Column]) -> Iterator[_Table]:
    yield _Table(target.table(spec.live.table), (*columns, ROW_ID_COLUMN), spec.event_time, spec.cluster)
    if spec.batch is not None:
        yield _Table(target.table(spec.batch.table), columns, spec.event_time, spec.cluster)
    yield _Table(target.table(spec.dead_letters), DEAD_LETTER_COLUMNS, "failed_at")
    yield _Table(target.incidents, IncidentRow.columns(), IncidentRow.DAY)
    yield _Table(target.reconciliations, ReconciliationRow.columns(), ReconciliationRow.DAY)


def _views(spec: StreamSpec, target: Target, columns: Sequence[Column]) -> Iterator[_View]:
    """The live view first: others are views of it."""
    streaming, live = target.table(spec.live.table), target.table(spec.view)
    batch = target.table(spec.batch.table) if spec.batch else None
    names, windows = [column.name for column in columns], spec.pipeline.windows
    if windows is None:
        yield _View(live, sql.live_view(streaming, batch, spec.event_time, names))
    else:
        yield _View(live, sql.final_rows(streaming, batch, windows, names))
    for each in spec.pipeline.views:
        yield _View(f"{streaming}_{each.name}", each.query.format(live=f"`{live}`"))


def _find_table(
    client: bigquery.Client, name: str, columns: Sequence[Column], day_column: str, cluster: Sequence[str]
) -> tuple[bigquery.Table, bigquery.Table | None]:
    """The table as it is wanted and as it is there. Raises SourceError where that cannot serve."""
    table = bigquery.Table(name, schema=[bigquery.SchemaField.from_api_repr(column.to_api()) for column in columns])
    day_type = next((types.find(column.type) for column in columns if column.name == day_column), None)
    if day_type is not None and day_type.is_day:
        table.time_partitioning = bigquery.TimePartitioning(field=day_column)
    if cluster:
        table.clustering_fields = list(cluster)
    try:
        found = client.get_table(name, retry=finite_retry(), timeout=TIMEOUT_SECONDS)
    except NotFound:
        return table, None
    if reason := compare.refusal(found, table, columns):
        raise SourceError(reason)
    return table, found


def _find_view(client: bigquery.Client, name: str) -> bigquery.Table | None:
    """The view of this name. Raises SourceError where a table has it."""
    try:
        found = client.get_table(name, retry=finite_retry(), timeout=TIMEOUT_SECONDS)
    except NotFound:
        return None
    if found.table_type != "VIEW":
        rule = f"{name} is a {str(found.table_type).lower()}, and must be a view"
        raise SourceError(f"{rule}: drop or rename it, or name another view in the spec")
    return found


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
