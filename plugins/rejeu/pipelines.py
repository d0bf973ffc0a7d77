"""What each streaming pipeline writes: its columns, known without importing Beam, so that tables can be made first.

The pipelines themselves are in `beam_jobs/`, one module a pipeline, under the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rejeu.message import ROW_ID


@dataclass(frozen=True)
class Column:
    """One column in BigQuery's words: `mode` is NULLABLE, REQUIRED or REPEATED; `fields` are a RECORD's."""

    name: str
    type: str
    mode: str = "NULLABLE"
    fields: tuple[Column, ...] = ()

    def to_api(self) -> dict[str, object]:
        """The column as BigQuery's REST API and load files of a schema have it."""
        column: dict[str, object] = {"name": self.name, "type": self.type, "mode": self.mode}
        return column | ({"fields": [field.to_api() for field in self.fields]} if self.fields else {})


@dataclass(frozen=True)
class Pipeline:
    """A pipeline's name, its module, and its columns; None where it writes the source's columns as they are."""

    name: str
    columns: tuple[Column, ...] | None

    @property
    def module(self) -> str:
        return f"beam_jobs.{self.name}"


ROW_ID_COLUMN: Final = Column(ROW_ID, "STRING")
"""Every streaming table carries it: what is delivered twice is removed by it."""

DEAD_LETTER_COLUMNS: Final = (
    Column("failed_at", "TIMESTAMP", "REQUIRED"),
    Column("stream", "STRING"),
    Column("step", "STRING"),
    Column("reason", "STRING"),
    Column(ROW_ID, "STRING"),
    Column("payload", "STRING"),
    Column("attributes", "STRING"),
)
"""`payload` is the original body: as text where it is UTF-8, else base64 behind the word `base64:`."""

PIPELINES: Final = {
    pipeline.name: pipeline
    for pipeline in (
        Pipeline("passthrough", columns=None),
        Pipeline(
            "rates",
            columns=(
                Column("timestamp", "TIMESTAMP"),
                Column("request", "STRING"),
                Column("symbol", "STRING"),
                Column("rate", "FLOAT64"),
                Column("date_str", "STRING"),
            ),
        ),
    )
}
