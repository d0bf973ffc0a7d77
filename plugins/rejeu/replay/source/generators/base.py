"""What a simulator is: options that validate themselves, and tables that follow from them alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from rejeu.pipelines import Column

ARROW_TYPES: Final[dict[str, pa.DataType]] = {
    "INT64": pa.int64(),
    "FLOAT64": pa.float64(),
    "BOOL": pa.bool_(),
    "STRING": pa.string(),
    "BYTES": pa.binary(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
}


class Generator(BaseModel, ABC):
    """A simulator; its fields are the options of `--generator name:option=value,...`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: ClassVar[tuple[Column, ...]]
    """What its rows have, as BigQuery has it."""

    @abstractmethod
    def tables(self) -> Iterator[pa.Table]:
        """The rows, the same for the same options; times never go back from one table to the next."""


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """The columns as Arrow has them."""
    return pa.schema([pa.field(column.name, _arrow_type(column)) for column in columns])


def _arrow_type(column: Column) -> pa.DataType:
    kind = pa.struct(arrow_schema(column.fields)) if column.fields else ARROW_TYPES[column.type]
    return pa.list_(kind) if column.mode == "REPEATED" else kind
