"""A table that exists beside the one that a stream needs: what agrees, what does no harm, what is refused and how."""

from __future__ import annotations

import pytest
from google.cloud.bigquery import SchemaField, Table, TimePartitioning

from rejeu.bigquery.compare import other_clustering, refusal
from rejeu.spec.columns import Column

NAME = "p-123456.web.clicks"
COLUMNS = (
    Column("at", "TIMESTAMP", "REQUIRED"),
    Column("user", "STRING"),
    Column("count", "INT64"),
    Column("tags", "STRING", "REPEATED"),
    Column("page", "RECORD", fields=(Column("url", "STRING"), Column("bytes", "INT64"))),
)


def table(*columns: Column, day: str | None = "at", cluster: tuple[str, ...] = (), kind: str = "TABLE") -> Table:
    """A table as BigQuery tells of it."""
    made = Table(NAME, schema=[SchemaField.from_api_repr(each.to_api()) for each in columns or COLUMNS])
    if day is not None:
        made.time_partitioning = TimePartitioning(field=day)
    if cluster:
        made.clustering_fields = list(cluster)
    made._properties["type"] = kind
    return made


def with_column(column: Column) -> Table:
    """The table with this column in the place of the one of its name."""
    others = [each for each in COLUMNS if each.name != column.name]
    return table(*others, column)


def said(found: Table) -> str | None:
    return refusal(found, table(), COLUMNS)


def test_a_table_as_it_is_wanted_serves() -> None:
    assert said(table()) is None


@pytest.mark.parametrize(
    "column",
    [
        Column("count", "INTEGER"),
        Column("page", "STRUCT", fields=COLUMNS[4].fields),
        Column("user", "STRING", "REQUIRED"),
        Column("at", "TIMESTAMP"),
        Column("more", "STRING"),
    ],
    ids=["another spelling", "a record's other name", "stricter", "less strict", "one column more"],
)
def test_what_does_no_harm_is_left_alone(column: Column) -> None:
    assert said(with_column(column)) is None


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (Column("count", "STRING"), "count is STRING, and must be INT64"),
        (Column("tags", "STRING"), "tags is a single value, and must be repeated"),
        (Column("user", "STRING", "REPEATED"), "user is repeated, and must be a single value"),
        (
            Column("page", "RECORD", fields=(Column("url", "STRING"), Column("bytes", "FLOAT"))),
            "page.bytes is FLOAT64, and must be INT64",
        ),
        (Column("page", "RECORD", fields=(Column("url", "STRING"),)), "page.bytes is missing"),
        (
            Column("more", "STRING", "REQUIRED"),
            "more is required, and the stream has no such column: no row could be written",
        ),
    ],
)
def test_a_column_that_no_row_would_fit_is_refused(column: Column, words: str) -> None:
    text = said(with_column(column))
    assert text is not None
    assert text.startswith(f"table {NAME} exists, but {words}. ")


def test_a_missing_column_is_refused_with_the_statement_that_adds_it() -> None:
    text = said(table(*[each for each in COLUMNS if each.name != "user"]))
    assert text is not None
    assert f"Run ALTER TABLE `{NAME}` ADD COLUMN user STRING," in text


@pytest.mark.parametrize(("day", "is_now"), [(None, "not partitioned"), ("other", "partitioned by day of other")])
def test_other_days_are_refused_with_the_statement_that_helps(day: str | None, is_now: str) -> None:
    text = refusal(table(day=day), table(cluster=("user",)), COLUMNS)
    assert text is not None
    assert f"it is {is_now}, and must be by day of at" in text
    assert f"CREATE TABLE `{NAME}_by_day` PARTITION BY DATE(at) CLUSTER BY user AS SELECT * FROM `{NAME}`" in text


def test_where_no_day_can_part_the_table_its_owner_decides() -> None:
    assert refusal(table(day="at"), table(day=None), COLUMNS) is None


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED_VIEW", "EXTERNAL"])
def test_what_is_no_table_is_refused(kind: str) -> None:
    text = said(table(kind=kind))
    assert text == f"{NAME} is a {kind.lower()}, and must be a table: name another one in the spec"


@pytest.mark.parametrize(
    ("is_now", "must", "differs"),
    [((), ("user",), True), (("user",), ("user",), False), (("user",), (), False), (("a", "b"), ("b", "a"), True)],
)
def test_clustering_is_compared_where_the_spec_says_one(
    is_now: tuple[str, ...], must: tuple[str, ...], differs: bool
) -> None:
    assert other_clustering(table(cluster=is_now), table(cluster=must)) is differs
