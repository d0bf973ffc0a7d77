"""What a new spec guesses: which column is the event time and which ones are the key, each with its reason."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rejeu.bigquery.columns import from_arrow
from rejeu.errors import SourceError
from rejeu.new.guess import find_event_time, find_key
from rejeu.new.sample import Sample

BEGIN = datetime(2021, 5, 1, tzinfo=UTC)
ROWS = 20
SECONDS = [1_619_827_200 + second for second in range(ROWS)]


def sample(partitioned_by: str | None = None, **columns: Any) -> Sample:
    """A sample of these columns, in their order."""
    rows = pa.table(columns)
    return Sample(from_arrow(rows.schema), rows, partitioned_by=partitioned_by)


def instants(step: timedelta = timedelta(seconds=1)) -> pa.Array:
    return pa.array([BEGIN + number * step for number in range(ROWS)], pa.timestamp("us", "UTC"))


def refusals(found: Any) -> dict[str, str]:
    return dict(found.refused)


# Event time


@pytest.mark.parametrize("name", ["timestamp", "event_time", "eventTime", "created_at", "ts", "Timestamp", "time"])
def test_a_column_named_like_a_time_is_the_event_time(name: str) -> None:
    found = find_event_time(sample(value=SECONDS, **{name: instants()}))
    assert (found.name, found.unit) == (name, None)
    assert "its name says so" in found.reasons
    assert (found.first, found.last) == (BEGIN, BEGIN + timedelta(seconds=ROWS - 1))


@pytest.mark.parametrize(("factor", "unit"), [(1, "s"), (1_000, "ms"), (1_000_000, "us")])
def test_the_unit_of_whole_numbers_is_the_one_that_makes_them_times_of_our_age(factor: int, unit: str) -> None:
    found = find_event_time(sample(event_timestamp=[second * factor for second in SECONDS]))
    assert (found.unit, found.first) == (unit, BEGIN)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([second * 1_000_000_000 for second in SECONDS], "nanoseconds"),
        (list(range(ROWS)), "not within 1990 to 2100"),
        ([None, *SECONDS[1:]], "1 of 20 rows have none"),
        (["yesterday"] * ROWS, "ISO 8601"),
        (["2021-05-01T00:00:00"] * ROWS, "with a zone"),
    ],
)
def test_a_column_that_no_replay_could_go_by_is_refused_with_the_reason(values: list[Any], why: str) -> None:
    found = find_event_time(sample(ts=values, logged=instants()))
    assert found.name == "logged"
    assert why in refusals(found)["ts"]


def test_whole_numbers_that_are_not_named_like_a_time_are_none() -> None:
    with pytest.raises(SourceError, match=r"no column says when a row happened \(there are order_id\)"):
        find_event_time(sample(order_id=SECONDS))


def test_what_happened_to_the_row_later_comes_second() -> None:
    found = find_event_time(sample(updated_at=instants(), created_at=instants()))
    assert found.name == "created_at"
    assert refusals(found) == {"updated_at": "created_at is likelier"}


def test_the_column_by_which_the_table_is_partitioned_comes_first() -> None:
    found = find_event_time(sample("seen", timestamp=instants(), seen=instants()))
    assert found.name == "seen"
    assert "the table is partitioned by it" in found.reasons


def test_a_date_is_the_last_choice_even_where_the_table_is_partitioned_by_it() -> None:
    days = [date(2021, 5, 1)] * ROWS
    assert find_event_time(sample("event_date", event_date=days, logged=instants())).name == "logged"
    assert find_event_time(sample("event_date", event_date=days)).name == "event_date"


def test_text_in_json_is_a_time_where_the_replay_could_read_it() -> None:
    texts = [f"2021-05-01 00:00:{second:02} UTC" for second in range(ROWS)]
    found = find_event_time(sample(name=["x"] * ROWS, at=texts))
    assert (found.name, found.first) == ("at", BEGIN)


def test_rows_in_the_order_of_a_column_speak_for_it() -> None:
    backwards = pa.array(list(reversed(instants().to_pylist())), pa.timestamp("us", "UTC"))
    found = find_event_time(sample(one_time=backwards, two_time=instants()))
    assert found.name == "two_time"
    assert "the rows seen are in its order" in found.reasons


def test_a_time_within_a_record_is_told_of_but_not_taken() -> None:
    with pytest.raises(SourceError, match=r"within records there is header\.event_time\): .* in a view"):
        find_event_time(sample(header=[{"event_time": BEGIN}] * ROWS, tags=[["a"]] * ROWS))


def test_an_empty_source_has_no_event_time() -> None:
    with pytest.raises(SourceError, match="has no rows"):
        find_event_time(sample(at=pa.array([], pa.timestamp("us", "UTC"))))


# Key


def key_of(**columns: Any) -> tuple[tuple[str, ...], dict[str, str]]:
    seen = sample(at=instants(timedelta()), **columns)
    key = find_key(seen, find_event_time(seen))
    return key.names, refusals(key)


@pytest.mark.parametrize("name", ["id", "order_id", "recordId", "recordid", "uuid"])
def test_a_column_that_names_every_row_is_the_key(name: str) -> None:
    assert key_of(place=["a"] * ROWS, **{name: list(range(ROWS))}) == ((name,), {})


def test_columns_that_name_a_row_together_are_the_key() -> None:
    names, refused = key_of(user_id=[n // 5 for n in range(ROWS)], symbol=["ABCDE"[n % 5] for n in range(ROWS)])
    assert names == ("user_id", "symbol")
    assert refused == {}


def test_an_identity_that_comes_again_is_the_key_where_no_instant_has_it_twice() -> None:
    seen = sample(at=instants(), sensor_id=["a", "b"] * (ROWS // 2))
    assert find_key(seen, find_event_time(seen)).names == ("sensor_id",)


def test_more_than_three_columns_are_no_key_but_the_whole_row_is() -> None:
    names, refused = key_of(user_id=[1, 2] * (ROWS // 2), value=[float(n) for n in range(ROWS)])
    assert names == ()
    assert refused == {"user_id": "18 rows have it in common with another"}


def test_free_text_and_columns_with_gaps_are_no_key() -> None:
    notes = [f"note {n}" for n in range(ROWS)]
    assert key_of(note=notes, row_id=[None, *range(1, ROWS)]) == ((), {})


# What it costs

GUESS = """
import sys
from rejeu.cli import main
assert main(["new", "clicks", "--file", sys.argv[1], "--dry-run"]) == 0
print(sorted({name.partition(".")[0] for name in sys.modules} & {"airflow", "apache_beam", "duckdb", "pandas"}))
"""


def test_a_spec_is_begun_from_a_file_without_a_large_library(tmp_path: Path) -> None:
    """It would be most of the time that the command takes."""
    rows = sample(at=instants(), of=["a", "b"] * (ROWS // 2), number_id=[*range(ROWS // 2)] * 2, day=SECONDS).rows
    pq.write_table(rows, tmp_path / "rows.parquet")
    command = [sys.executable, "-c", GUESS, tmp_path / "rows.parquet"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "key: [" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "[]"
