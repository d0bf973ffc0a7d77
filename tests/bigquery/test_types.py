"""Whatever Rejeu does with a column type, it knows from the type's one record."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs.transforms.storage_write import AppendRows, type_overrides, writer
from beam_jobs.transforms.validate import fault_finder
from rejeu.bigquery import types
from rejeu.bigquery.columns import from_arrow
from rejeu.bigquery.types import ColumnType
from rejeu.errors import RowError, SourceError
from rejeu.new import guess
from rejeu.replay.format import json_text
from rejeu.replay.format.encode import encode
from rejeu.replay.source.generators.base import arrow_schema
from rejeu.replay.source.times import event_times
from rejeu.replay.source.windows import TimeColumn
from rejeu.spec.columns import Column

EACH: Final = pytest.mark.parametrize("kind", types.TYPES, ids=lambda kind: kind.name)
MADE: Final = [kind for kind in types.TYPES if kind.arrow is not None]
VALUES: Final[dict[str, Any]] = {
    "BOOL": True,
    "INT64": 7,
    "FLOAT64": 1.5,
    "NUMERIC": "1.500000000",
    "BIGNUMERIC": "0." + "1" * 38,
    "TIMESTAMP": "2021-05-01T00:00:00.000000Z",
    "DATETIME": "2021-05-01T00:00:00.000000",
    "DATE": "2021-05-01",
    "TIME": "09:30:00.000000",
    "BYTES": "aGk=",
    "STRING": "é",
    "JSON": '{"a": 1}',
    "GEOGRAPHY": "POINT(1 2)",
    "INTERVAL": "0-0 1 0:0:0",
}
"""A value of each type, as the encoder writes it into a message."""
WITHOUT_SPARK: Final = {"BIGNUMERIC", "DATETIME", "TIME", "BYTES", "JSON", "GEOGRAPHY", "INTERVAL"}
"""Spark has no such type, or its cast from text gives another value."""
WITHOUT_ARROW: Final = {"JSON", "GEOGRAPHY"}
"""They come as text, so that no table maker and no generator makes them."""


def test_no_name_stands_for_two_types() -> None:
    names = [name for kind in types.TYPES for name in kind.names]
    assert len(set(names)) == len(names)
    assert not set(names) & set(types.RECORDS)


def test_a_type_is_found_in_each_of_its_spellings() -> None:
    assert types.find("INTEGER") is types.find("INT64")
    assert types.find("RANGE") is None
    assert types.find("RECORD") is None


@EACH
def test_a_type_is_validated_in_each_of_its_spellings(kind: ColumnType) -> None:
    for name in kind.names:
        assert fault_finder([Column("it", name)])({"it": VALUES[kind.name]}) is None
        assert fault_finder([Column("it", name)])({"it": {}}) == f"it is {{}}: a {name} must be {kind.rule}"


@EACH
def test_a_type_is_handed_to_the_storage_write_api_as_the_type_that_is_declared(kind: ColumnType) -> None:
    for name in kind.names:
        AppendRows("rates", "p.d.t", [Column("it", name)], "out")
        made = writer([Column("it", name)])({"it": VALUES[kind.name]})["it"]
        assert type(made) is kind.append_as
        assert type_overrides()[name] in (kind.append_as, np.int64, np.float64)


@EACH
def test_the_encoder_has_the_function_that_a_type_names(kind: ColumnType) -> None:
    assert callable(getattr(json_text, kind.json))


@EACH
def test_a_type_is_known_to_arrow_or_comes_as_text(kind: ColumnType) -> None:
    assert (kind.is_arrow is None) == (kind.arrow is None) == (kind.name in WITHOUT_ARROW)


@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.name)
def test_what_a_generator_makes_gets_a_column_of_its_type_and_is_encoded(kind: ColumnType) -> None:
    schema = arrow_schema([Column("it", kind.name)])
    assert from_arrow(schema) == (Column("it", kind.name),)
    (line,) = encode(pa.table({"it": pa.nulls(1, schema.field("it").type)})).to_pylist()
    assert json.loads(line) == {"it": None}


@EACH
def test_spark_has_a_type_or_is_said_to_have_none(kind: ColumnType) -> None:
    assert (kind.spark is None) == (kind.name in WITHOUT_SPARK)


@EACH
def test_sql_and_arrow_agree_on_what_may_be_an_event_time(kind: ColumnType) -> None:
    arrow = kind.arrow() if kind.arrow else pa.binary()
    column, unit = pa.chunked_array([], arrow), "s" if kind.time and kind.time.needs_unit else None
    if kind.time is not None:
        assert event_times(column, "it", unit).type == pa.int64()  # type: ignore[arg-type]
        assert TimeColumn("it", kind.name, unit).within(0, None)  # type: ignore[arg-type]
        return
    with pytest.raises((SourceError, RowError), match="an event time is a timestamp"):
        event_times(column, "it", None)
    with pytest.raises(SourceError, match=f"it is {kind.name}: an event time is a timestamp"):
        _ = TimeColumn("it", kind.name, None).micros


def test_no_two_types_tell_a_time_equally_well() -> None:
    ranks = [kind.time.rank for kind in types.TYPES if kind.time is not None]
    assert sorted(ranks) == list(range(len(ranks)))


def test_only_a_time_has_days() -> None:
    assert [kind.name for kind in types.TYPES if kind.is_day] == ["TIMESTAMP", "DATETIME", "DATE"]


def test_a_generator_refuses_a_type_that_it_cannot_make() -> None:
    with pytest.raises(SourceError, match="column it is JSON: a generator makes columns of BOOL, INT64, "):
        arrow_schema([Column("it", "JSON")])


def test_one_record_adds_a_type_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    added = ColumnType(
        name="UUID",
        check=lambda value: len(value) == 36,
        rule="a UUID, 36 characters long",
        json="uuids",
        is_arrow=lambda kind: isinstance(kind, pa.UuidType),
        arrow=pa.uuid,
        is_name=True,
    )
    monkeypatch.setattr(types, "TYPES", (*types.TYPES, added))
    monkeypatch.setattr(json_text, "uuids", lambda array, write=json_text.uuids: write(array.storage))
    column, text = Column("it", "UUID"), "00010203-0405-0607-0809-0a0b0c0d0e0f"
    schema = arrow_schema([column])
    assert from_arrow(schema) == (column,)
    table = pa.table({"it": pa.array([bytes(range(16))], pa.uuid())}, schema=schema)
    assert encode(table).to_pylist() == [f'{{"it":"{text}"}}'.encode()]
    assert fault_finder([column])({"it": text}) is None
    assert fault_finder([column])({"it": "short"}) == "it is 'short': a UUID must be a UUID, 36 characters long"
    assert writer([column])({"it": text}) == {"it": text}
    assert guess._time_sql("UUID") is None
