"""Which columns a stream writes: its pipeline's own, or those of its source if the pipeline passes rows through."""

from __future__ import annotations

from collections.abc import Sequence

from google.cloud import bigquery

from rejeu.bigquery.columns import from_api, from_arrow
from rejeu.errors import SourceError
from rejeu.gcp.clients import finite_retry
from rejeu.gcp.errors import asking_google
from rejeu.jobs.build import replay_of
from rejeu.message import ROW_ID
from rejeu.spec.columns import Column
from rejeu.spec.model import Source, StreamSpec
from rejeu.target import Target

TIMEOUT_SECONDS = 60.0
RIGHTS = "check its name, and that the account has roles/bigquery.dataViewer on it and roles/bigquery.jobUser"


def output_columns(spec: StreamSpec, target: Target, client: bigquery.Client) -> Sequence[Column]:
    """The columns of the stream's tables, without the streaming table's row id.

    Raises SourceError where the source is missing or has no event-time column.
    """
    if spec.pipeline.columns is not None:
        return spec.pipeline.columns
    if spec.replay is None:
        return _own_columns(spec, target, client)
    columns = source_columns(spec, target, client)
    assert columns is not None, "a spec with an API has a pipeline with columns of its own"
    if spec.source_time not in {column.name for column in columns}:
        names = ", ".join(column.name for column in columns)
        raise SourceError(
            f"{spec.stream}: the source has no column {spec.source_time}: event_time must be one of {names}"
        )
    return columns


def source_columns(spec: StreamSpec, target: Target, client: bigquery.Client) -> Sequence[Column] | None:
    """What the rows of the source have; None for an API, whose records nobody knows before.

    Raises SourceError where the source is missing or cannot be read, RequestError where somebody else publishes.
    """
    source = replay_of(spec).source
    return None if source.api is not None else _source_columns(spec.stream, source, target, client)


def _own_columns(spec: StreamSpec, target: Target, client: bigquery.Client) -> Sequence[Column]:
    """The columns of the table of a stream that somebody else publishes; that table must exist."""
    name = target.table(spec.live.table)
    what = f"{spec.stream}: table {name} cannot be read, and without a replay nothing else tells its columns"
    with asking_google(SourceError, what, RIGHTS, missing="create the table first"):
        columns = from_api(client.get_table(name, retry=finite_retry(), timeout=TIMEOUT_SECONDS).schema)
    return [column for column in columns if column.name != ROW_ID]


def _source_columns(stream: str, source: Source, target: Target, client: bigquery.Client) -> Sequence[Column]:
    with asking_google(SourceError, f"{stream}: {source.table or 'the query'} cannot be read", RIGHTS):
        if source.table is not None:
            table = client.get_table(target.table(source.table), retry=finite_retry(), timeout=TIMEOUT_SECONDS)
            return from_api(table.schema)
        if source.query is not None:
            job = client.query(f"SELECT * FROM ({source.query}) LIMIT 0", timeout=TIMEOUT_SECONDS)
            return from_api(job.result(timeout=TIMEOUT_SECONDS).schema)
    if source.files is not None:
        from rejeu.replay.source.files import file_schema

        return from_arrow(file_schema(target.expand(source.files), target.project))
    if source.reader is not None:
        from rejeu.replay.source.reader import reader_columns

        return reader_columns(source.reader, source.options, target.project)
    from rejeu.replay.source.generated import open_generator

    return open_generator(source.generator or "").columns
