"""What `rejeu new` has seen of a source: its columns and first rows; what they mean is not here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from rejeu.replay.source.times import event_times
from rejeu.spec.columns import Column
from rejeu.spec.types import TimeUnit

SAMPLE_ROWS: Final = 10_000


@dataclass(frozen=True)
class Sample:
    """A source's columns, in BigQuery's words, and its first rows, as Arrow; JSON has its times as text."""

    columns: tuple[Column, ...]
    rows: pa.Table
    total: int | None = None
    """How many rows there are, where that is known without reading them."""
    partitioned_by: str | None = None

    def times(self, name: str, unit: TimeUnit | None) -> pa.ChunkedArray:
        """A column as the replay reads event times, in microseconds since the epoch.

        Raises RowError and SourceError where the replay could not.
        """
        return event_times(self.values(name), name, unit)

    def values(self, name: str) -> pa.ChunkedArray:
        """A column's values; JSON has none at all of some."""
        if name in self.rows.column_names:
            return self.rows[name]
        return pa.chunked_array([pa.nulls(self.rows.num_rows)])
