"""What the SQL does to rows: the live view has each row once, a slice is replaced whole, a day ends at midnight UTC."""

import uuid
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from google.cloud import bigquery

from rejeu.bigquery import sql
from tests.servers import PATIENCE_SECONDS

pytestmark = pytest.mark.emulated

COLUMNS = {"at": "TIMESTAMP", "user": "STRING", "n": "INT64"}
NAMES = list(COLUMNS)
APRIL_30 = date(2021, 4, 30)

Row = tuple[str, str, int]
FIRST, NOON, LAST = "2021-04-30T00:00:00Z", "2021-04-30T12:00:00Z", "2021-04-30T23:59:59.999999Z"
MAY, MAY_NOON = "2021-05-01T00:00:00Z", "2021-05-01T12:00:00Z"


@dataclass(frozen=True)
class Tables:
    """A dataset with a batch, a staging and a streaming table, which no other test uses."""

    client: bigquery.Client
    dataset: str

    def name(self, table: str) -> str:
        return f"{self.dataset}.{table}"

    def run(self, text: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement; `day` is a date."""
        given = [bigquery.ScalarQueryParameter(name, "DATE", value) for name, value in parameters.items()]
        job = self.client.query(
            text, job_config=bigquery.QueryJobConfig(query_parameters=given), timeout=PATIENCE_SECONDS
        )
        return [tuple(row.values()) for row in job.result(timeout=PATIENCE_SECONDS)]

    def put(self, table: str, *rows: Row) -> None:
        """Write rows, streamed ones with the row id that they have for ever."""
        for at, user, n in rows:
            row_id = f", 'clicks/{at}/{user}/{n}'" if table == "streaming" else ""
            self.run(f"INSERT INTO `{self.name(table)}` VALUES (TIMESTAMP '{at}', '{user}', {n}{row_id})")

    def rows(self, query: str) -> list[Row]:
        """The rows of a query, sorted, with instants as they are written here."""
        found = self.run(query)
        return sorted((at.isoformat().replace("+00:00", "Z"), user, n) for at, user, n in found)

    def live(self, batch: str | None = "batch") -> list[Row]:
        """What the live view shows."""
        name = self.name(f"live_{uuid.uuid4().hex}")
        view = bigquery.Table(name)
        view.view_query = sql.live_view(self.name("streaming"), batch and self.name(batch), "at", NAMES)
        self.client.create_table(view, timeout=PATIENCE_SECONDS)
        return self.rows(f"SELECT * FROM `{name}`")

    def replace(self) -> None:
        """Put what is staged in the place of the 30th of April."""
        self.run(sql.replace_slice(self.name("batch"), self.name("staging"), NAMES, "DATE(`at`) = @day"), day=APRIL_30)

    def batch(self) -> list[Row]:
        return self.rows(f"SELECT * FROM `{self.name('batch')}`")


@pytest.fixture
def tables(client: bigquery.Client) -> Tables:
    made = Tables(client, f"rejeu-test.d{uuid.uuid4().hex}")
    client.create_dataset(made.dataset, timeout=PATIENCE_SECONDS)
    for table in ("batch", "staging", "streaming"):
        columns = COLUMNS | ({"row_id": "STRING"} if table == "streaming" else {})
        schema = [bigquery.SchemaField(name, kind) for name, kind in columns.items()]
        client.create_table(bigquery.Table(made.name(table), schema=schema), timeout=PATIENCE_SECONDS)
    return made


# The live view


def test_batch_and_stream_are_one_with_each_row_once(tables: Tables) -> None:
    tables.put("batch", (FIRST, "ann", 1), (NOON, "bob", 2))
    tables.put("streaming", (LAST, "ann", 3), (MAY, "bob", 4))
    assert tables.live() == [(FIRST, "ann", 1), (NOON, "bob", 2), (LAST, "ann", 3), (MAY, "bob", 4)]


def test_what_was_delivered_twice_is_shown_once(tables: Tables) -> None:
    tables.put("batch", (NOON, "ann", 1))
    tables.put("streaming", (MAY, "bob", 2), (MAY, "bob", 2), (MAY, "bob", 2))
    assert tables.live() == [(NOON, "ann", 1), (MAY, "bob", 2)]


def test_what_is_equal_in_batch_is_as_often_as_it_was_loaded(tables: Tables) -> None:
    tables.put("batch", (NOON, "ann", 1), (NOON, "ann", 1))
    assert tables.live() == [(NOON, "ann", 1), (NOON, "ann", 1)]


def test_what_the_batch_holds_by_now_is_not_shown_from_the_stream_too(tables: Tables) -> None:
    tables.put("streaming", (FIRST, "ann", 1), (NOON, "bob", 2), (LAST, "ann", 3))
    tables.put("batch", (FIRST, "ann", 1), (NOON, "bob", 2))
    assert tables.live() == [(FIRST, "ann", 1), (NOON, "bob", 2), (LAST, "ann", 3)]


def test_the_stream_goes_on_a_microsecond_after_the_batch(tables: Tables) -> None:
    tables.put("batch", (NOON, "ann", 1))
    tables.put("streaming", (NOON, "ann", 1), ("2021-04-30T12:00:00.000001Z", "bob", 2))
    assert tables.live() == [("2021-04-30T12:00:00.000001Z", "bob", 2), (NOON, "ann", 1)]


def test_a_day_without_a_batch_is_the_streams_though_a_later_day_has_one(tables: Tables) -> None:
    tables.put("streaming", (FIRST, "ann", 1), (LAST, "bob", 2), (MAY, "ann", 3), (MAY_NOON, "bob", 4))
    tables.put("batch", (MAY, "ann", 3))
    assert tables.live() == [(FIRST, "ann", 1), (LAST, "bob", 2), (MAY, "ann", 3), (MAY_NOON, "bob", 4)]


def test_the_last_microsecond_of_a_day_belongs_to_it(tables: Tables) -> None:
    tables.put("batch", (LAST, "ann", 1))
    tables.put("streaming", (LAST, "ann", 1), (MAY, "bob", 2))
    assert tables.live() == [(LAST, "ann", 1), (MAY, "bob", 2)]


def test_a_feed_without_batch_shows_its_stream_once(tables: Tables) -> None:
    tables.put("streaming", (NOON, "ann", 1), (NOON, "ann", 1), (MAY, "bob", 2))
    assert tables.live(batch=None) == [(NOON, "ann", 1), (MAY, "bob", 2)]


def test_an_empty_batch_takes_nothing_away(tables: Tables) -> None:
    tables.put("streaming", (NOON, "ann", 1))
    assert tables.live() == [(NOON, "ann", 1)]


# A slice


def test_a_slice_is_replaced_and_the_days_beside_it_stay(tables: Tables) -> None:
    before, after = ("2021-04-29T23:59:59.999999Z", "eve", 0), (MAY, "eve", 9)
    tables.put("batch", before, (FIRST, "old", 1), (LAST, "old", 2), after)
    tables.put("staging", (NOON, "new", 3))
    tables.replace()
    assert tables.batch() == [before, (NOON, "new", 3), after]


def test_replacing_a_slice_twice_is_replacing_it_once(tables: Tables) -> None:
    tables.put("staging", (FIRST, "new", 1), (LAST, "new", 2), (LAST, "new", 2))
    for _ in range(2):
        tables.replace()
        assert tables.batch() == [(FIRST, "new", 1), (LAST, "new", 2), (LAST, "new", 2)]


def test_an_empty_staging_table_empties_the_slice(tables: Tables) -> None:
    tables.put("batch", (NOON, "old", 1), (MAY, "eve", 9))
    tables.replace()
    assert tables.batch() == [(MAY, "eve", 9)]


# Measures


def test_a_partition_is_measured_beside_its_table(tables: Tables) -> None:
    tables.put("batch", (FIRST, "ann", 1), (LAST, "bob", 2), (MAY_NOON, "eve", 9))
    [(rows, last, table_last)] = tables.run(sql.measure_partition(tables.name("batch"), "at"), day=APRIL_30)
    assert (rows, last.isoformat(), table_last.isoformat()) == (
        2,
        "2021-04-30T23:59:59.999999+00:00",
        "2021-05-01T12:00:00+00:00",
    )


def test_an_empty_table_has_no_last_instant(tables: Tables) -> None:
    assert tables.run(sql.last_instant(tables.name("batch"), "at")) == [(None,)]
    assert tables.run(sql.measure_partition(tables.name("batch"), "at"), day=APRIL_30) == [(0, None, None)]


def test_the_last_instant_is_the_greatest(tables: Tables) -> None:
    tables.put("batch", (LAST, "bob", 2), (FIRST, "ann", 1))
    [(last,)] = tables.run(sql.last_instant(tables.name("batch"), "at"))
    assert last.isoformat() == "2021-04-30T23:59:59.999999+00:00"


def test_a_row_is_inserted_once_however_often_with_each_column_as_its_parameter(tables: Tables) -> None:
    given = [
        bigquery.ScalarQueryParameter("at", "TIMESTAMP", NOON),
        bigquery.ScalarQueryParameter("user", "STRING", "o'hara; --"),
        bigquery.ScalarQueryParameter("n", "INT64", 7),
    ]
    text = sql.insert_once(tables.name("batch"), NAMES, ["at", "user"])
    config = bigquery.QueryJobConfig(query_parameters=given)
    for _ in range(2):
        tables.client.query(text, job_config=config, timeout=PATIENCE_SECONDS).result(timeout=PATIENCE_SECONDS)
    assert tables.batch() == [(NOON, "o'hara; --", 7)]


@pytest.mark.parametrize(
    ("row_id", "found"),
    [
        ("gs://raw/dt=2021-04-30/part-0.ndjson:17", True),
        ("gs://raw/dt=2021-05-01/part-0.ndjson:17", False),
        ("rates/1619827200000000/7/0", False),
    ],
)
def test_dead_letters_of_a_day_are_known_by_their_files(tables: Tables, row_id: str, found: bool) -> None:
    condition = sql.is_from_files("rates", "gs://raw/dt=2021-04-30/*.ndjson")
    text = f"SELECT {condition} FROM (SELECT 'rates' AS stream, '{row_id}' AS row_id)"
    assert tables.run(text) == [(found,)]
