"""BigQuery tables and queries as a source, against an emulator."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.cloud import bigquery
from google.cloud.bigquery import SchemaField as Field

import rejeu.replay.source.bigquery
from rejeu.errors import RowError, SourceError
from rejeu.gcp.clients import bigquery_client, finite_retry
from rejeu.timeline import Position
from tests.replay.rows import PROJECT

pytestmark = pytest.mark.emulated

Read = Callable[..., list[tuple[int, str, bytes]]]
MakeTable = Callable[..., str]

SECOND_US = 1_000_000
START_US = 1_619_827_200_000_000
"""2021-05-01T00:00:00Z."""
TIMES = {
    "TIMESTAMP": "TIMESTAMP_MICROS({us})",
    "DATETIME": "DATETIME(TIMESTAMP_MICROS({us}))",
    "INT64": "DIV({us}, 1000)",
    "STRING": "FORMAT_TIMESTAMP('%Y-%m-%dT%H:%M:%E6S', TIMESTAMP_MICROS({us})) || '789Z'",
}


@pytest.fixture
def make_table(emulator: Path) -> MakeTable:
    """Makes a table of these columns ("name TYPE, …", or fields) and fills it from a SELECT; gives its name."""
    client = bigquery_client(PROJECT)
    client.create_dataset("replay", exists_ok=True)

    def make(columns: str | list[Field], select: str) -> str:
        name = f"replay.t{uuid.uuid4().hex}"
        schema = plain_fields(columns) if isinstance(columns, str) else columns
        client.create_table(bigquery.Table(f"{PROJECT}.{name}", schema=schema), retry=finite_retry())
        client.query(f"INSERT INTO {name} {select}", retry=finite_retry()).result(timeout=60)
        return name

    return make


@pytest.fixture
def read(read: Read) -> Read:
    """`at` is a reserved word."""
    return partial(read, event_time="ts")


def plain_fields(columns: str) -> list[Field]:
    return [Field(name, kind) for name, _, kind in (column.partition(" ") for column in columns.split(", "))]


def numbers(count: int, us: str = "n * 1000000") -> str:
    """A SELECT of rows n = 0, 1, … with the event time `us` after START_US."""
    return f"SELECT n, {START_US} + {us} AS us FROM UNNEST(GENERATE_ARRAY(0, {count - 1})) AS n"


def bodies(rows: Sequence[tuple[int, str, bytes]]) -> list[Any]:
    return [json.loads(body) for _, _, body in rows]


@pytest.mark.parametrize("kind", TIMES)
def test_a_table_is_read_window_by_window_in_order(
    make_table: MakeTable, read: Read, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(rejeu.replay.source.bigquery, "WINDOW_ROWS_UNMEASURED", 70)
    times = TIMES[kind].format(us="us")
    # Ten rows an instant, instants far apart, stored backwards.
    source = numbers(1_000, us="DIV(n, 10) * 777000")
    table = make_table(f"n INT64, ts {kind}", f"SELECT n, {times} FROM ({source}) ORDER BY n DESC")
    unit = {"time_unit": "ms"} if kind == "INT64" else {}
    rows = read(table=table, key=("n",), **unit)
    assert [row[0] for row in rows] == [START_US + n // 10 * 777_000 for n in range(1_000)]
    assert sorted(body["n"] for body in bodies(rows)) == list(range(1_000))
    assert read(Position(START_US + 50 * 777_000, 3), table=table, key=("n",), **unit) == rows[503:]
    assert read(table=table, key=("n",), until="2021-05-01T00:00:07.77Z", **unit) == rows[:100]
    assert read(query=f"SELECT * FROM {table} -- all of it", key=("n",), **unit) == rows


def test_dates_are_midnights(make_table: MakeTable, read: Read) -> None:
    table = make_table("ts DATE, n INT64", f"SELECT DATE_ADD(DATE '2021-05-01', INTERVAL n DAY), n FROM ({numbers(5)})")
    rows = read(Position(START_US + 1), table=table, until="2021-05-04T00:00:00.000001Z")
    assert [body["ts"] for body in bodies(rows)] == ["2021-05-02", "2021-05-03", "2021-05-04"]


def test_a_crowded_instant_far_from_the_rest_is_read_by_itself(
    make_table: MakeTable, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejeu.replay.source.bigquery, "WINDOW_ROWS_UNMEASURED", 10)
    us = "IF(n = 0, 0, 3600000000000 + DIV(n, 90))"
    table = make_table("n INT64, ts TIMESTAMP", f"SELECT n, TIMESTAMP_MICROS(us) FROM ({numbers(100, us)})")
    rows = read(table=table, key=("n",))
    assert sorted(body["n"] for body in bodies(rows)) == list(range(100))


def test_windows_are_cut_only_where_rows_are(make_table: MakeTable, read: Read) -> None:
    empty = make_table("ts TIMESTAMP, n INT64", "SELECT TIMESTAMP '2021-05-01', 1 FROM (SELECT 1) WHERE FALSE")
    assert read(table=empty) == []


def test_every_type_arrives_as_bigquery_loads_it(make_table: MakeTable, read: Read) -> None:
    plain = "ts TIMESTAMP, f FLOAT64, n NUMERIC, b BOOL, y BYTES, d DATE, t TIME, dt DATETIME, j JSON, nothing STRING"
    columns = [
        *plain_fields(plain),
        Field("r", "RECORD", fields=[Field("a", "INT64"), Field("z", "TIMESTAMP")]),
        Field("l", "STRING", "REPEATED"),
        Field("rr", "RECORD", "REPEATED", fields=[Field("q", "BYTES")]),
    ]
    table = make_table(
        columns,
        "SELECT TIMESTAMP '2021-05-01', CAST('nan' AS FLOAT64), NUMERIC '1.5', TRUE, b'ab', DATE '2021-05-01', "
        "TIME '01:02:03.5', DATETIME '2021-05-01T00:00:01', JSON '{\"a\": 1}', "
        "CAST(NULL AS STRING), STRUCT(1, TIMESTAMP '2021-05-01'), ['a', 'b'], [STRUCT(b'x')]",
    )
    expected = {
        "ts": "2021-05-01T00:00:00.000000Z",
        "f": "NaN",
        "n": "1.500000000",
        "b": True,
        "y": "YWI=",
        "d": "2021-05-01",
        "t": "01:02:03.500000",
        "dt": "2021-05-01T00:00:01.000000",
        "j": {"a": 1},
        "r": {"a": 1, "z": "2021-05-01T00:00:00.000000Z"},
        "l": ["a", "b"],
        "rr": [{"q": "eA=="}],
        "nothing": None,
    }
    assert bodies(read(table=table)) == [expected]
    assert bodies(read(query=f"SELECT * FROM {table}")) == [expected]


def test_a_view_is_read_as_a_query(make_table: MakeTable, read: Read) -> None:
    table = make_table("ts TIMESTAMP, n INT64", f"SELECT TIMESTAMP_MICROS(us), n FROM ({numbers(5)})")
    view = bigquery.Table(f"{PROJECT}.{table}_view")
    view.view_query = f"SELECT * FROM `{PROJECT}.{table}`"
    bigquery_client(PROJECT).create_table(view, retry=finite_retry())
    assert read(table=f"{table}_view") == read(table=table)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("TIMESTAMP", "CAST(NULL AS TIMESTAMP)"), ("STRING", "'2021-05-01T00:00:00'"), ("STRING", "'noon'")],
)
def test_rows_without_an_event_time_are_refused_before_the_first_row(
    make_table: MakeTable, read: Read, kind: str, value: str
) -> None:
    good = "TIMESTAMP_MICROS(us)" if kind == "TIMESTAMP" else "'2021-05-01T00:00:00Z'"
    table = make_table(f"ts {kind}, n INT64", f"SELECT IF(n < 3, {value}, {good}), n FROM ({numbers(9)})")
    with pytest.raises(RowError, match=r"3 rows of .* have no readable event time in ts.* with a query source"):
        read(table=table)
    with pytest.raises(RowError):
        read(query=f"SELECT * FROM {table}")
    assert len(read(query=f"SELECT * FROM {table} WHERE n >= 3")) == 6


def test_what_is_missing_is_told_with_what_there_is(make_table: MakeTable, read: Read) -> None:
    table = make_table("ts TIMESTAMP, n INT64", "SELECT TIMESTAMP '2021-05-01', 1")
    with pytest.raises(SourceError, match=rf"no table replay\.nope: dataset .*{table.removeprefix('replay.')}.*; name"):
        read(table="replay.nope")
    with pytest.raises(SourceError, match=r"no table nope\.t: .*project rejeu-local has .*replay"):
        read(table="nope.t")
    with pytest.raises(SourceError, match="--event-time when: 'when' is no single column of n, ts"):
        read(table=table, event_time="when")
    with pytest.raises(SourceError, match="--key id: the source has no 'id'; name one of n, ts"):
        read(table=table, key=("id",))
    with pytest.raises(SourceError, match="n is an integer, and its unit is unknown"):
        read(table=table, event_time="n")
    with pytest.raises(SourceError, match="the query cannot be read: 400"):
        read(query="SELEC 1")


def test_a_server_that_is_not_there_is_told_soon(
    make_table: MakeTable, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table("ts TIMESTAMP", "SELECT TIMESTAMP '2021-05-01'")
    monkeypatch.setattr("rejeu.gcp.clients.RETRY_SECONDS", 0.5)
    monkeypatch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", "127.0.0.1:1")
    with pytest.raises(SourceError, match=f"table {table} cannot be read: .*mend that, and resume"):
        read(table=table)
