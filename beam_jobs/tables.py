"""What a job asks of BigQuery before it is submitted: its table's columns. Writing is the sink's business."""

from __future__ import annotations

from collections.abc import Sequence

from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from beam_jobs.transforms.sink import client_for
from rejeu.errors import RequestError
from rejeu.pipelines import Column


def columns_of(table: str) -> tuple[Column, ...]:
    """The columns of `project.dataset.table`. Raises RequestError where there is no such table."""
    try:
        found = client_for(table).get_table(table, timeout=30.0)
    except NotFound:
        raise RequestError(
            f"--table is {table}: there is no such table; the stream's live DAG makes it, and so does `rejeu up`"
        ) from None
    return _columns(found.schema)


def _columns(fields: Sequence[bigquery.SchemaField]) -> tuple[Column, ...]:
    return tuple(
        Column(field.name, field.field_type, field.mode or "NULLABLE", _columns(field.fields)) for field in fields
    )
