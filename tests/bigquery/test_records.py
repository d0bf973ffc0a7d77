"""The rows of Rejeu's own tables: their columns are their fields, and what another version wrote is named."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest

from rejeu.bigquery.records import IncidentRow, ReconciliationRow, Record
from rejeu.errors import SourceError

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ROW: dict[str, Any] = {
    "stream": "crypto_rates",
    "lost_at": NOON,
    "detected_at": NOON,
    "relaunched_at": None,
    "resumed_at": NOON.replace(second=9),
    "ended_by": "signal",
    "gap_seconds": 9.0,
    "cause": "the replay died",
    "rows_owed": None,
    "rows_lost": 0,
    "probe": "heartbeat",
    "launcher": "process",
    "dag_run_id": "asset-1",
}


class WithOneMore(IncidentRow):
    """A column of incidents that somebody adds."""

    KEY: ClassVar = IncidentRow.KEY
    host: str | None = None


def test_a_new_column_is_one_field() -> None:
    new = [column for column in WithOneMore.columns() if column not in IncidentRow.columns()]
    assert [(column.name, column.type, column.mode) for column in new] == [("host", "STRING", "NULLABLE")]


def test_rows_from_before_a_column_was_there_are_read() -> None:
    assert WithOneMore.read("p.d.incidents", ROW | {"host": None}).host is None


@pytest.mark.parametrize("record", [IncidentRow, ReconciliationRow])
def test_the_key_is_required_and_its_day_is_a_column(record: type[Record]) -> None:
    columns = {column.name: column for column in record.columns()}
    assert {name for name, column in columns.items() if column.mode == "REQUIRED"} == set(record.KEY)
    assert columns[record.DAY].type == "TIMESTAMP"


def test_every_field_has_the_type_that_bigquery_calls_so() -> None:
    types = {column.name: column.type for column in IncidentRow.columns()}
    assert (types["lost_at"], types["relaunched_at"]) == ("TIMESTAMP", "TIMESTAMP")
    assert (types["gap_seconds"], types["rows_owed"], types["ended_by"]) == ("FLOAT64", "INT64", "STRING")


def test_instants_are_text_in_what_leaves_python() -> None:
    said = IncidentRow.model_validate(ROW).as_json()
    assert (said["lost_at"], said["relaunched_at"], said["ended_by"]) == ("2026-11-20T12:00:00.000000Z", None, "signal")


def test_there_is_no_row_of_an_incident_without_its_end() -> None:
    with pytest.raises(SourceError, match=r"resumed_at: .* in the row crypto_rates, 2026-11-20 12:00:00\+00:00 of"):
        IncidentRow.read("p.d.incidents", ROW | {"resumed_at": None})
