"""Rows of a BigQuery table, window by window over the Storage Read API, or of a query, streamed in its own order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from rejeu.errors import RowError, SourceError, first_line
from rejeu.gcp.clients import (
    RETRY_SECONDS,
    bigquery_client,
    bigquery_read_client,
    finite_retry,
    query_read_client,
)
from rejeu.gcp.errors import asking_google
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.format.encode import EXTENSION
from rejeu.replay.source.rows import arrange
from rejeu.replay.source.windows import TimeColumn, TimeSpan, histogram, windows

if TYPE_CHECKING:
    from google.cloud import bigquery
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient
    from google.cloud.bigquery_storage_v1.types import ReadSession

WINDOW_ROWS: Final = 100_000
WINDOW_BYTES: Final = 64_000_000
"""Two windows are in memory at a time: one is published, the next is read."""
WINDOW_ROWS_UNMEASURED: Final = 5_000
"""Used where BigQuery does not say how large rows are. The emulator never does, and it sends a window as one message
of at most 11 MB."""
QUERY_SECONDS: Final = 600.0
READ_SECONDS: Final = 300.0
CHOICES: Final = 20
STORED: Final = frozenset({"TABLE", "SNAPSHOT"})
"""The kinds of tables that Storage Read serves; the others are kinds of views, and are queried."""


def read_table(request: ReplayRequest, from_us: int | None, until_us: int | None) -> Iterator[pa.Table]:
    """The rows of `request.table`; each window is read while the one before it is published.

    Raises SourceError for a missing table or column, and RowError for rows without an event time, both before the
    first row.
    """
    client = bigquery_client(request.paying_project)
    with _asking(f"table {request.table}"):
        table = _find(client, str(request.table))
        if table.table_type not in STORED:
            yield from read_query(request, f"SELECT * FROM `{_full_name(table)}`", from_us, until_us)
            return
        time = _time_column(request, table.schema)
        read = _Reader(request, bigquery_read_client(), client.project, table, time)
        planned = _plan(client, table, time, from_us, until_us, _window_rows(table))
        yield from _ahead(read(window) for window in planned)


def read_query(request: ReplayRequest, query: str, from_us: int | None, until_us: int | None) -> Iterator[pa.Table]:
    """The rows of a query, by event time. Rows without one come first, so the query is refused before any is sent."""
    from google.cloud import bigquery

    client = bigquery_client(request.paying_project)
    inner = f"(\n{query.strip().rstrip(';')}\n)"
    with _asking("the query"):
        described = client.query(
            f"SELECT * FROM {inner}", job_config=bigquery.QueryJobConfig(dry_run=True), retry=finite_retry()
        )
        time = _time_column(request, described.schema or [])
        window = time.within(from_us, until_us)
        where = f"WHERE {window} OR {time.expression} IS NULL" if window else ""
        result = _run(client, f"SELECT * FROM {inner} {where} ORDER BY {time.expression} NULLS FIRST")
        for batch in result.to_arrow_iterable(bqstorage_client=query_read_client()):
            yield arrange(pa.Table.from_batches([batch]), request)


class _Reader:
    """Reads one window of a table over the Storage Read API, in any order."""

    def __init__(
        self,
        request: ReplayRequest,
        client: BigQueryReadClient,
        project: str,
        table: bigquery.Table,
        time: TimeColumn,
    ) -> None:
        self._request, self._client, self._project, self._table, self._time = request, client, project, table, time

    def __call__(self, window: TimeSpan) -> pa.Table:
        from google.cloud.bigquery_storage_v1 import types

        options = types.ReadSession.TableReadOptions(row_restriction=self._time.within(window.from_us, window.until_us))
        session = self._client.create_read_session(
            parent=f"projects/{self._project}",
            read_session=types.ReadSession(
                table=self._table.path.removeprefix("/"), data_format=types.DataFormat.ARROW, read_options=options
            ),
            max_stream_count=1,
            retry=finite_retry(),
            timeout=RETRY_SECONDS,
        )
        streams = [self._read(stream.name, session) for stream in session.streams]
        found = sum(each.num_rows for each in streams)
        if found < window.rows:
            gone = f"{found:,} rows where {window.rows:,} were counted before"
            raise SourceError(f"{_full_name(self._table)} has {gone}: none may go while it is replayed; resume")
        return arrange(_mark_json(pa.concat_tables(streams), self._table.schema), self._request)

    def _read(self, stream: str, session: ReadSession) -> pa.Table:
        schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
        responses = self._client.read_rows(stream, retry=finite_retry(), timeout=READ_SECONDS)
        batches = [response.arrow_record_batch.serialized_record_batch for response in responses]
        return pa.Table.from_batches(
            [pa.ipc.read_record_batch(pa.py_buffer(batch), schema) for batch in batches], schema
        )


def _plan(
    client: bigquery.Client,
    table: bigquery.Table,
    time: TimeColumn,
    from_us: int | None,
    until_us: int | None,
    target_rows: int,
) -> Iterator[TimeSpan]:
    """Windows of about `target_rows`; a bucket that holds far more gets a histogram of its own."""
    name = _full_name(table)
    counted = list(_run(client, histogram(name, time, from_us, until_us)))
    without_time = sum(row["row_count"] for row in counted if row["bucket"] is None)
    if without_time:
        found = f"{without_time:,} rows of {name} have no readable event time in {time.name}"
        raise RowError(f"{found}: every row needs one; leave them out with a query source and a WHERE")
    buckets = []
    for row in counted:
        start = row["first_us"] + row["bucket"] * row["step_us"]
        end = start + row["step_us"]
        buckets.append(TimeSpan(start, end if until_us is None else min(end, until_us), row["row_count"]))
    for window in windows(buckets, target_rows):
        if window.rows > 2 * target_rows and window.until_us - window.from_us > 1:
            yield from _plan(client, table, time, window.from_us, window.until_us, target_rows)
        else:
            yield window


def _ahead(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same tables; a thread reads the next one while this one is used."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        following = pool.submit(next, tables, None)
        while (table := following.result()) is not None:
            following = pool.submit(next, tables, None)
            yield table
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _run(client: bigquery.Client, query: str) -> bigquery.table.RowIterator:
    retry = finite_retry()
    return client.query(query, retry=retry, job_retry=retry).result(retry=retry, timeout=QUERY_SECONDS)


def _asking(source: str) -> AbstractContextManager[None]:
    return asking_google(SourceError, f"{source} cannot be read", "mend that, and resume", why=first_line)


def _find(client: bigquery.Client, name: str) -> bigquery.Table:
    """The table. If it is missing, the error lists the tables that exist."""
    from google.api_core.exceptions import NotFound

    retry = finite_retry()
    parts = name.rsplit(".", 2)
    project, dataset = (parts[0] if len(parts) == 3 else client.project), parts[-2]
    try:
        return client.get_table(f"{project}.{dataset}.{parts[-1]}", retry=retry, timeout=RETRY_SECONDS)
    except NotFound:
        pass
    where, there = f"dataset {project}.{dataset}", []
    with suppress(NotFound):
        there = [each.table_id for each in client.list_tables(f"{project}.{dataset}", CHOICES, retry=retry)]
    if not there:
        there = [each.dataset_id for each in client.list_datasets(project, max_results=CHOICES, retry=retry)]
        where = f"{where} is empty or missing, and project {project}"
    raise SourceError(f"there is no table {name}: {where} has {', '.join(sorted(there)) or 'nothing'}; name one")


def _time_column(request: ReplayRequest, schema: list[bigquery.SchemaField]) -> TimeColumn:
    fields, field = {each.name: each for each in schema}, None
    for part in request.event_time.split("."):
        field = fields.get(part)
        if field is None or field.mode == "REPEATED":
            known = ", ".join(sorted(fields))
            raise SourceError(f"--event-time {request.event_time}: {part!r} is no single column of {known}; name one")
        fields = {each.name: each for each in field.fields}
    assert field is not None
    return TimeColumn(request.event_time, field.field_type, request.time_unit)


def _mark_json(rows: pa.Table, schema: list[bigquery.SchemaField]) -> pa.Table:
    """BigQuery marks JSON columns in Arrow; the emulator does not."""
    for index, column in enumerate(schema):
        if column.field_type == "JSON":
            field = rows.schema.field(index).with_metadata({EXTENSION: b"google:sqlType:json"})
            rows = rows.set_column(index, field, rows[index])
    return rows


def _window_rows(table: bigquery.Table) -> int:
    """How many rows a window has: fewer if rows are large, because a window is held in memory."""
    if not table.num_rows or not table.num_bytes:
        return WINDOW_ROWS_UNMEASURED
    return max(1, min(WINDOW_ROWS, int(WINDOW_BYTES * table.num_rows / table.num_bytes)))


def _full_name(table: bigquery.Table) -> str:
    return f"{table.project}.{table.dataset_id}.{table.table_id}"
