"""The rows of Rejeu's own tables, each as one record whose fields are its columns. Nothing here asks BigQuery."""

from __future__ import annotations

from datetime import datetime
from types import NoneType
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from rejeu.bigquery import types
from rejeu.errors import SourceError, explain_first
from rejeu.ports import EndedBy
from rejeu.spec.columns import Column
from rejeu.timeline import format_instant


class Record(BaseModel):
    """A row of a table of Rejeu's own. A new column is a new field here, of a Python type that a
    record of `rejeu.bigquery.types` names.

    Rows that were written before the column was there do not have it: let the field be `None` by default.
    """

    model_config = ConfigDict(frozen=True)

    KEY: ClassVar[tuple[str, ...]]
    """What tells a row from all others; a row is written once, even if the task that writes it has to try again."""
    DAY: ClassVar[str]
    """The column by whose days the table is partitioned."""

    @classmethod
    def columns(cls) -> tuple[Column, ...]:
        """The table's columns; those of the key are required."""
        return tuple(
            Column(name, _type(field.annotation), "REQUIRED" if name in cls.KEY else "NULLABLE")
            for name, field in cls.model_fields.items()
        )

    @classmethod
    def read(cls, table: str, row: dict[str, Any]) -> Self:
        """A row as BigQuery has it. Raises SourceError for one that another version of Rejeu wrote."""
        try:
            return cls.model_validate(row)
        except ValidationError as error:
            key = ", ".join(str(row.get(name)) for name in cls.KEY)
            raise SourceError(
                f"{explain_first(error)}, in the row {key} of table {table}: another version of Rejeu wrote it; "
                "fill the column in, or delete the row"
            ) from None

    def as_json(self) -> dict[str, Any]:
        """Every column, with instants as text: RFC 3339, UTC, to the microsecond."""
        instants = {name: each for name, each in self if isinstance(each, datetime)}
        return self.model_dump(mode="json") | {name: format_instant(each) for name, each in instants.items()}


class IncidentRow(Record):
    """One silence that is over. Instants are aware UTC."""

    KEY: ClassVar = ("stream", "lost_at")
    DAY: ClassVar = "lost_at"

    stream: str
    lost_at: datetime
    """When the first row was due that did not come."""
    detected_at: datetime
    relaunched_at: datetime | None
    """When the last relaunch was decided; None where a relaunch is not the remedy."""
    resumed_at: datetime
    """When the silence was over; `ended_by` says what ended it."""
    ended_by: EndedBy
    gap_seconds: float
    """From `lost_at` to `resumed_at`."""
    cause: str
    rows_owed: int | None
    """Rows that were due already when the replay was back; None where nobody knows."""
    rows_lost: int | None
    """0 where the replay continued at its cursor; None where nobody knows."""
    probe: str
    launcher: str
    dag_run_id: str


class Comparison(Record):
    """What a comparison found. `found`, `missing` and `doubles` are as they were before anything was published again.

    `found` counts the rows of the source that are in the streaming table or among the dead letters (`dead_letters`:
    only there), `doubles` rows beyond the first of an id, `unexpected` ids of the table that the source does not have.
    """

    stream: str
    from_time: datetime | None
    """None: the source's first row."""
    until_time: datetime
    checked_at: datetime
    expected: int
    found: int
    missing: int
    healed: int
    still_missing: int
    doubles: int
    unexpected: int
    dead_letters: int


class ReconciliationRow(Comparison):
    """One comparison, and the run that made it."""

    KEY: ClassVar = ("stream", "dag_run_id", "checked_at")
    DAY: ClassVar = "checked_at"

    dag_run_id: str


def _type(annotation: Any) -> str:
    """BigQuery's type of a field that may be None."""
    (python,) = [each for each in get_args(annotation) or (annotation,) if each is not NoneType]
    return next(each.name for each in types.TYPES if each.python is not None and issubclass(python, each.python))
