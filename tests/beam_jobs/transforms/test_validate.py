"""A row is refused, with the column and the rule, exactly where BigQuery would refuse it."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import pytest
from apache_beam import Create
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs.transforms.records import Row
from beam_jobs.transforms.validate import Validate, fault_finder
from rejeu.spec.columns import Column
from tests.beam_jobs.builders import STREAM, make_message, pipeline_here

GOOD: dict[str, list[Any]] = {
    "STRING": ["", "é"],
    "BYTES": ["", "AAEC"],
    "INT64": [0, -(2**63), "9223372036854775807"],
    "INTEGER": [1],
    "FLOAT64": [0, 1.5, "1e3", "NaN", "-Infinity"],
    "FLOAT": [1],
    "NUMERIC": [1, "-99999999999999999999999999999.999999999", 0.1, "1.50000000000"],
    "BIGNUMERIC": ["0." + "1" * 38],
    "BOOL": [True, "false"],
    "BOOLEAN": [False],
    "TIMESTAMP": ["2021-05-01T00:00:00Z", "2021-05-01 00:00:00.123456 UTC", "2021-05-01T02:00:00+02:00"],
    "DATETIME": ["2021-05-01T00:00:00"],
    "DATE": ["2021-05-01"],
    "TIME": ["09:30:00.5"],
    "JSON": ['{"a": 1}'],
    "GEOGRAPHY": ["POINT(1 2)"],
    "INTERVAL": ["0-0 1 0:0:0"],
    "RANGE": ["[2021-05-01, UNBOUNDED)"],
}
BAD: dict[str, list[Any]] = {
    "STRING": [1, True, ["a"]],
    "BYTES": ["not base64!", 1],
    "INT64": [True, 1.5, 2**63, "one", "1.0"],
    "FLOAT64": [True, "much", float("nan"), [1.0]],
    "NUMERIC": [True, "1" + "0" * 29, "0.1234567891", "NaN", "much"],
    "BOOL": [1, "yes"],
    "TIMESTAMP": ["2021-05-01T00:00:00", "yesterday", 1619827200, "2021-13-01T00:00:00Z"],
    "DATETIME": ["2021-05-01T00:00:00Z", 1],
    "DATE": ["01.05.2021", 20210501],
    "TIME": ["noon", "25:00:00"],
    "JSON": [{"a": 1}],
    "RECORD": ["flat", [1]],
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in GOOD.items() for value in values])
def test_a_value_of_its_type_passes(kind: str, value: object) -> None:
    assert fault_finder([Column("it", kind)])({"it": value}) is None


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in BAD.items() for value in values])
def test_a_value_of_another_type_is_refused_by_name_value_and_rule(kind: str, value: object) -> None:
    fault = fault_finder([Column("it", kind)])({"it": value})
    assert fault is not None
    assert fault.startswith(f"it is {value!r}: ")
    assert kind in fault


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({}, "id is missing: the column is REQUIRED"),
        ({"id": None}, "id is missing: the column is REQUIRED"),
        ({"id": 1, "colour": "red"}, "colour: there is no such column; the table has id, tags, place"),
        ({"id": 1, "tags": "a"}, "tags is 'a': it must be an array, for the column is REPEATED"),
        ({"id": 1, "tags": ["a", None]}, "tags[1] is null: an array of BigQuery holds no nulls"),
        ({"id": 1, "tags": ["a", 2]}, "tags[1] is 2: a STRING must be text"),
        ({"id": 1, "place": {}}, "place.city is missing: the column is REQUIRED"),
        ({"id": 1, "place": {"city": "Lille", "zip": 1}}, "place.zip: there is no such column; the table has city"),
    ],
)
def test_the_first_fault_is_told_with_its_path(values: dict[str, Any], fault: str) -> None:
    columns = [
        Column("id", "INT64", "REQUIRED"),
        Column("tags", "STRING", "REPEATED"),
        Column("place", "RECORD", fields=(Column("city", "STRING", "REQUIRED"),)),
    ]
    assert fault_finder(columns)(values) == fault


def test_column_names_know_no_case_as_in_bigquery() -> None:
    assert fault_finder([Column("id", "INT64", "REQUIRED")])({"ID": 1}) is None


def test_a_long_value_is_cut_in_the_reason() -> None:
    fault = fault_finder([Column("it", "INT64")])({"it": "x" * 10_000})
    assert fault is not None
    assert len(fault) < 250


def test_a_number_of_more_digits_than_python_writes_is_refused_as_any_other() -> None:
    fault = fault_finder([Column("it", "STRING")])({"it": 10**5_000})
    assert fault == "it is a number of very many digits: a STRING must be text"


@pytest.mark.parametrize("kind", ["INT64", "NUMERIC", "STRING", "RECORD"])
def test_a_value_nested_too_deeply_to_be_shown_is_cut_in_the_reason(kind: str) -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    fault = fault_finder([Column("it", kind)])({"it": value})
    assert fault is not None
    assert len(fault) < 250


def test_good_rows_go_on_and_bad_ones_become_dead_letters_under_their_own_row_id() -> None:
    message = make_message(b"{}", row_id="s/1/k/0")
    good, bad = (Row(f"s/1/k/0#{index}", {"rate": rate}, message) for index, rate in enumerate((1.5, "high")))
    with pipeline_here() as pipeline:
        rows, dead = pipeline | Create([good, bad]) | Validate(STREAM, [Column("rate", "FLOAT64")])
        assert_that(rows, equal_to([good]), "rows")
        assert_that(dead, _check_letter, "dead letters")


@pytest.mark.parametrize(("columns", "row_id"), [(["n", "row_id"], "s/1/k/0"), (["n"], None)])
def test_a_row_carries_its_id_where_the_table_has_a_column_for_it(columns: list[str], row_id: str | None) -> None:
    row = Row("s/1/k/0", {"n": "1"}, make_message(b"{}"))
    with pipeline_here() as pipeline:
        rows, _ = pipeline | Create([row]) | Validate(STREAM, [Column(name, "STRING") for name in columns])
        assert_that(rows | beam.Map(lambda row: row.values.get("row_id")), equal_to([row_id]))


def _check_letter(letters: list[Row]) -> None:
    (letter,) = letters
    assert (letter.values["row_id"], letter.values["step"], letter.values["payload"]) == ("s/1/k/0#1", "validate", "{}")
    assert "rate is 'high'" in letter.values["reason"]
