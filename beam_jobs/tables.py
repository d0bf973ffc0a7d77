"""What a job reads from BigQuery before it is submitted: its table's columns. The sink writes."""

from __future__ import annotations

from google.api_core.exceptions import NotFound

from beam_jobs.transforms.sink import client_for
from rejeu.bigquery.columns import from_api
from rejeu.errors import RequestError
from rejeu.spec.columns import Column


def columns_of(table: str, flag: str = "--table") -> tuple[Column, ...]:
    """The columns of `project.dataset.table`. Raises RequestError where there is no such table."""
    try:
        found = client_for(table).get_table(table, timeout=30.0)
    except NotFound:
        raise RequestError(
            f"{flag} is {table}: there is no such table; the stream's live DAG makes it, and so does `rejeu up`"
        ) from None
    return from_api(found.schema)
