"""BigQuery's and Arrow's schemas as columns of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rejeu.bigquery import types
from rejeu.errors import SourceError
from rejeu.spec.columns import Column

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud import bigquery


def from_api(fields: Sequence[bigquery.SchemaField]) -> tuple[Column, ...]:
    """BigQuery's schema as columns of ours."""
    return tuple(
        Column(field.name, field.field_type, field.mode or "NULLABLE", from_api(field.fields)) for field in fields
    )


def from_arrow(schema: pa.Schema) -> tuple[Column, ...]:
    """An Arrow schema as BigQuery columns. Raises SourceError for a type that BigQuery has not."""
    return tuple(_from_arrow(field.name, field.type) for field in schema)


def _from_arrow(name: str, kind: pa.DataType) -> Column:
    import pyarrow.types as is_

    if is_.is_list(kind) or is_.is_large_list(kind):
        element = _from_arrow(name, kind.value_type)
        if element.mode == "REPEATED":
            raise SourceError(f"column {name} is a list of lists, which BigQuery has not: flatten it in the file")
        return Column(name, element.type, "REPEATED", element.fields)
    if is_.is_struct(kind):
        return Column(name, "RECORD", fields=tuple(_from_arrow(field.name, field.type) for field in kind))
    for each in types.TYPES:
        if each.is_arrow is not None and each.is_arrow(kind):
            return Column(name, each.name)
    raise SourceError(
        f"column {name} has the type {kind}, which has no counterpart in BigQuery: convert it in the file"
    )
