"""What a table that exists has otherwise than a stream needs it, in words for a person; nothing here asks BigQuery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.cloud.bigquery import SchemaField, Table, TimePartitioning

from rejeu.bigquery import types
from rejeu.spec.columns import Column


def refusal(found: Table, wanted: Table, columns: Sequence[Column]) -> str | None:
    """Why the table that was found cannot serve, and what helps; None where it can.

    Columns beyond the wanted ones do no harm, unless each row must have them.
    """
    name = f"{found.project}.{found.dataset_id}.{found.table_id}"
    if found.table_type not in (None, "TABLE"):
        return f"{name} is a {found.table_type.lower()}, and must be a table: name another one in the spec"
    known = {field.name for field in found.schema}
    missing = [column for column in columns if column.name not in known]
    if missing:
        remedy = ", ".join(f"ADD COLUMN {column.name} {column.type}" for column in missing)
        return (
            f"table {name} exists, but {', '.join(column.name for column in missing)} is missing: a stream's table "
            f"needs all its columns. Run ALTER TABLE `{name}` {remedy}, or name another table in the spec"
        )
    if others := [*_other_columns(found.schema, columns)]:
        return (
            f"table {name} exists, but {'; '.join(others)}. Change the pipeline or the table so that they agree, or "
            "name another table in the spec"
        )
    return _other_days(name, found, wanted)


def other_clustering(found: Table, wanted: Table) -> bool:
    """Whether the table is clustered otherwise than the spec says; where that says nothing, its owner decides."""
    return bool(wanted.clustering_fields) and found.clustering_fields != wanted.clustering_fields


def _other_columns(found: Sequence[SchemaField], wanted: Sequence[Column], within: str = "") -> Iterator[str]:
    """What is wrong with the columns, or with the fields of a record."""
    columns = {column.name: column for column in wanted}
    for field in found:
        column, name = columns.get(field.name), f"{within}{field.name}"
        if column is None:
            if field.mode == "REQUIRED":
                yield f"{name} is required, and the stream has no such column: no row could be written"
            continue
        is_type, must_type = _type(field.field_type), _type(column.type)
        if is_type != must_type:
            yield f"{name} is {is_type}, and must be {must_type}"
        elif (field.mode == "REPEATED") != (column.mode == "REPEATED"):
            one, many = "a single value", "repeated"
            yield f"{name} is {many if field.mode == 'REPEATED' else one}, and must be " + (
                many if column.mode == "REPEATED" else one
            )
        else:
            yield from _other_columns(field.fields, column.fields, f"{name}.")
    if within:
        known = {field.name for field in found}
        yield from (f"{within}{name} is missing" for name in columns if name not in known)


def _other_days(name: str, found: Table, wanted: Table) -> str | None:
    """Whether the table is parted by other days than those of its events: queries of a day would read all of it."""
    must = wanted.time_partitioning
    if must is None or _parts(found) == _parts(wanted):
        return None
    is_now = "not partitioned"
    if found.time_partitioning is not None:
        is_now = f"partitioned by {_words(found.time_partitioning)}"
    elif found.range_partitioning is not None:
        is_now = f"partitioned by ranges of {found.range_partitioning.field}"
    cluster = f" CLUSTER BY {', '.join(wanted.clustering_fields)}" if wanted.clustering_fields else ""
    day = must.field if _is_date(wanted, must.field) else f"DATE({must.field})"
    return (
        f"table {name} exists, but it is {is_now}, and must be by {_words(must)}, which BigQuery does not change in "
        f"place. Run CREATE TABLE `{name}_by_day` PARTITION BY {day}{cluster} AS SELECT * FROM `{name}`, drop the old "
        f"one and rename the new one, or name another table in the spec"
    )


def _parts(table: Table) -> tuple[str, str | None] | None:
    parts = table.time_partitioning
    return None if parts is None else (parts.type_, parts.field)


def _words(parts: TimePartitioning) -> str:
    return f"{parts.type_.lower()} of {parts.field or 'arrival'}"


def _is_date(table: Table, column: str) -> bool:
    return any(field.name == column and _type(field.field_type) == "DATE" for field in table.schema)


def _type(name: str) -> str:
    """The type in Rejeu's spelling."""
    known = types.find(name)
    if known is not None:
        return known.name
    return "RECORD" if name == "STRUCT" else name
