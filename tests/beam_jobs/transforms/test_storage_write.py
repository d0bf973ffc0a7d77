"""Rows reach the Storage Write API in its own types, and what BigQuery refuses comes back as dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that

from beam_jobs.transforms.records import Row
from beam_jobs.transforms.storage_write import AppendRows, writer
from rejeu.errors import RequestError
from rejeu.spec.columns import Column
from tests.beam_jobs.builders import STREAM, counter, make_message
from tests.fakes import expansion_service as fake

TABLE = "rejeu-test.live.rates"
COLUMNS = (
    Column("at", "TIMESTAMP"),
    Column("count", "INT64", "REQUIRED"),
    Column("tags", "STRING", "REPEATED"),
    Column("place", "RECORD", fields=(Column("name", "STRING"), Column("since", "DATE"))),
    Column("row_id", "STRING"),
)

pytestmark = pytest.mark.emulated


@pytest.fixture(scope="module")
def options() -> Iterator[PipelineOptions]:
    """Beam's own way to name an expansion service that runs already."""
    with fake.expansion_service() as address:
        yield PipelineOptions([f"--beam_services={json.dumps({fake.GRADLE_TARGET: address})}"])


@pytest.fixture(autouse=True)
def clean() -> None:
    fake.WRITTEN.clear()
    fake.CONFIGURED.clear()


def row(row_id: str, **values: Any) -> Row:
    return Row(row_id, {"count": 1, "row_id": row_id, **values}, make_message(b"{}", row_id))


def test_good_rows_are_written_and_the_others_come_back_with_row_id_and_reason(options: PipelineOptions) -> None:
    rows = [row("s/1"), row("refuse/2", tags=["x"]), row("s/3")]
    with TestPipeline(runner=FnApiRunner(), options=options) as pipeline:
        letters = pipeline | beam.Create(rows) | AppendRows(STREAM, TABLE, COLUMNS, "out")
        assert_that(letters, _check_letter)
    assert sorted(values["row_id"] for _, values in fake.WRITTEN) == ["s/1", "s/3"]
    assert counter(pipeline, "out") == 3


def _check_letter(letters: list[Row]) -> None:
    (letter,) = (each.values for each in letters)
    assert (letter["row_id"], letter["step"]) == ("refuse/2", "insert")
    assert letter["reason"] == "BigQuery does not like it"
    assert json.loads(letter["payload"])["tags"] == ["x"]


def test_a_row_arrives_as_it_was_with_all_columns_and_nested_ones(options: PipelineOptions) -> None:
    full = row("s/1", AT="2021-05-01T00:00:00Z", tags=["a", "b"], place={"NAME": "here", "since": "2021-05-01"})
    with TestPipeline(runner=FnApiRunner(), options=options) as pipeline:
        _ = pipeline | beam.Create([full, row("s/2")]) | AppendRows(STREAM, TABLE, COLUMNS, "out")
    arrived = {values["row_id"]: values for _, values in fake.WRITTEN}
    assert (arrived["s/1"]["at"], arrived["s/1"]["tags"]) == (1_619_827_200_000_000, ["a", "b"])
    assert arrived["s/1"]["place"]._asdict() == {"name": "here", "since": "2021-05-01"}
    assert arrived["s/2"] == {"at": None, "count": 1, "tags": [], "place": None, "row_id": "s/2"}


def test_an_append_is_at_least_once_into_a_table_that_exists(options: PipelineOptions) -> None:
    with TestPipeline(runner=FnApiRunner(), options=options) as pipeline:
        _ = pipeline | beam.Create([row("s/1")]) | AppendRows(STREAM, TABLE, COLUMNS, "out")
    (asked,) = fake.CONFIGURED
    assert asked == {
        "table": "rejeu-test:live.rates",
        "create_disposition": "CREATE_NEVER",
        "write_disposition": "WRITE_APPEND",
        "use_at_least_once_semantics": True,
        "error_handling": {"output": "FailedRowsWithErrors"},
    }


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("INT64", "12", 12),
        ("FLOAT64", 1, 1.0),
        ("FLOAT64", "NaN", pytest.approx(float("nan"), nan_ok=True)),
        ("BOOL", "True", True),
        ("BOOL", False, False),
        ("BYTES", "aGk=", b"hi"),
        ("NUMERIC", 0.1, "0.1"),
        ("BIGNUMERIC", "1.00000000000000000000000000001", "1.00000000000000000000000000001"),
        ("TIMESTAMP", "2021-05-01 00:00:00.000001 UTC", 1_619_827_200_000_001),
        ("TIMESTAMP", "2021-05-01T02:00:00.123456789+02:00", 1_619_827_200_123_456),
        ("DATE", "2021-05-01", "2021-05-01"),
        ("JSON", '{"a": 1}', '{"a": 1}'),
    ],
)
def test_each_type_goes_in_a_form_that_the_api_takes(type_: str, value: Any, expected: Any) -> None:
    assert writer([Column("x", type_)])({"x": value}) == {"x": expected}


def test_a_column_that_cannot_be_written_is_refused_before_anything_is_submitted() -> None:
    nested = Column("stay", "RECORD", fields=(Column("during", "RANGE"),))
    with pytest.raises(RequestError, match=r"--table is rejeu-test\.live\.rates: its column stay\.during is a RANGE"):
        AppendRows(STREAM, TABLE, [nested], "out")
