"""A column in BigQuery's words, and the columns that Rejeu adds to a stream's own."""

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

PANE_COLUMNS: Final = (
    Column("window_end", "TIMESTAMP"),
    Column("pane_index", "INT64"),
    Column("pane_timing", "STRING"),
)
"""What every row of a window ends with. `pane_timing` is Beam's: EARLY, ON_TIME or LATE; `window_end` is exclusive."""
