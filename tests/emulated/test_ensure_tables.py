"""Tables and views that exist already, on a real emulator: mended or refused, and never emptied."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from google.cloud import bigquery

from rejeu.bigquery.ensure import ensure_table, ensure_view
from rejeu.errors import SourceError
from rejeu.spec.columns import Column
from rejeu.target import Target

pytestmark = pytest.mark.emulated

TARGET = Target(project="rejeu-test")
COLUMNS = (
    Column("at", "TIMESTAMP"),
    Column("user", "STRING"),
    Column("count", "INT64"),
    Column("seen", "TIMESTAMP"),
)


@pytest.fixture
def name(client: bigquery.Client) -> Iterator[str]:
    """A table that nobody else uses, as a stream wants it, with one row."""
    made = f"rejeu-test.ensured.t{uuid.uuid4().hex}"
    ensure_table(client, TARGET, made, COLUMNS, "at")
    client.query(f"INSERT INTO `{made}` VALUES (TIMESTAMP '2026-11-20 12:00:00', 'a', 1, NULL)").result()
    yield made
    client.delete_table(made)


def rows_of(client: bigquery.Client, name: str) -> list[tuple[str, int]]:
    return [(row["user"], row["count"]) for row in client.query(f"SELECT user, count FROM `{name}`").result()]


def test_a_table_that_is_as_it_is_wanted_keeps_its_rows(client: bigquery.Client, name: str) -> None:
    ensure_table(client, TARGET, name, COLUMNS, "at")
    assert rows_of(client, name) == [("a", 1)]


def test_a_column_of_another_type_is_refused(client: bigquery.Client, name: str) -> None:
    with pytest.raises(SourceError, match="count is INT64, and must be STRING"):
        ensure_table(client, TARGET, name, (*COLUMNS[:2], Column("count", "STRING"), COLUMNS[3]), "at")


def test_other_days_are_refused(client: bigquery.Client, name: str) -> None:
    with pytest.raises(SourceError, match="partitioned by day of at, and must be by day of seen"):
        ensure_table(client, TARGET, name, COLUMNS, "seen")


def test_another_clustering_is_mended_with_its_rows(client: bigquery.Client, name: str) -> None:
    ensure_table(client, TARGET, name, COLUMNS, "at", ["user"])
    assert client.get_table(name).clustering_fields == ["user"]
    assert rows_of(client, name) == [("a", 1)]


def test_a_view_gets_the_text_that_is_wanted_now(client: bigquery.Client, name: str) -> None:
    view = f"{name}_view"
    for column in ("user", "count"):
        ensure_view(client, TARGET, view, f"SELECT {column} FROM `{name}`")
    assert [field.name for field in client.query(f"SELECT * FROM `{view}`").result().schema] == ["count"]
    with pytest.raises(SourceError, match=f"{view} is a view, and must be a table"):
        ensure_table(client, TARGET, view, COLUMNS, "at")
    client.delete_table(view)


def test_a_table_that_has_a_views_name_is_refused(client: bigquery.Client, name: str) -> None:
    with pytest.raises(SourceError, match=f"{name} is a table, and must be a view: drop or rename it"):
        ensure_view(client, TARGET, name, "SELECT 1 AS one")
    assert rows_of(client, name) == [("a", 1)]
