"""What a simulator is: options that validate themselves, and tables that follow from them alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Final

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from rejeu.bigquery import types
from rejeu.errors import SourceError
from rejeu.replay.format.encode import encode
from rejeu.spec.columns import Column

Row = dict[str, Any]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

TABLE_ROWS: Final = 500


class Generator(BaseModel, ABC):
    """A simulator; its fields are the options of `--generator name:option=value,...`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: ClassVar[tuple[Column, ...]]
    """What its rows have, as BigQuery has it."""

    @abstractmethod
    def tables(self, from_us: int | None = None) -> Iterator[pa.Table]:
        """The rows, the same for the same options; times never go back from one table to the next.

        One that can begin at any instant leaves out what lies before `from_us` (microseconds).
        """

    def lines(self) -> Iterator[bytes]:
        """The same rows as BigQuery exports them to files: newline-delimited JSON, every INT64 as text."""
        for table in self.tables():
            yield from (line + b"\n" for line in encode(table.cast(_integers_as_text(table.schema))).to_pylist())


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """The columns as Arrow has them."""
    return pa.schema([pa.field(column.name, _arrow_type(column)) for column in columns])


def _arrow_type(column: Column) -> pa.DataType:
    kind = pa.struct(arrow_schema(column.fields)) if column.fields else _arrow_scalar(column)
    return pa.list_(kind) if column.mode == "REPEATED" else kind


def _arrow_scalar(column: Column) -> pa.DataType:
    kind = types.find(column.type)
    if kind is None or kind.arrow is None:
        made = ", ".join(each.name for each in types.TYPES if each.arrow is not None)
        raise SourceError(
            f"column {column.name} is {column.type}: a generator makes columns of {made}; take one of them"
        )
    return kind.arrow()


def _integers_as_text(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_type(_text_type(field.type)) for field in schema])


def _text_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct(_integers_as_text(pa.schema(list(kind))))
    if pa.types.is_list(kind):
        return pa.list_(_text_type(kind.value_type))
    return pa.string() if pa.types.is_integer(kind) else kind
