"""Arrow values as JSON in BigQuery's load format, type by type."""

from __future__ import annotations

import json
from datetime import time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from rejeu.errors import SourceError
from rejeu.replay.encode import encode

JSON_MARK = {"ARROW:extension:name": "google:sqlType:json"}
BIG = Decimal("-0.00000000000000000000000000000000000001")


@pytest.mark.parametrize(
    ("array", "text"),
    [
        pytest.param(pa.array([2**63 - 1]), "9223372036854775807", id="INT64 keeps every digit"),
        pytest.param(pa.array([0.1]), "0.1", id="FLOAT64"),
        pytest.param(pa.array([float("nan")]), '"NaN"', id="NaN has a name"),
        pytest.param(pa.array([float("inf")]), '"Infinity"', id="so has infinity"),
        pytest.param(pa.array([float("-inf")]), '"-Infinity"', id="and its opposite"),
        pytest.param(pa.array([Decimal("1.5")], pa.decimal128(38, 9)), '"1.500000000"', id="NUMERIC is text"),
        pytest.param(pa.array([Decimal(0)], pa.decimal128(38, 9)), '"0.000000000"', id="NUMERIC is never 0E-9"),
        pytest.param(pa.array([BIG], pa.decimal256(76, 38)), f'"{BIG:f}"', id="BIGNUMERIC is exact"),
        pytest.param(pa.array([True]), "true", id="BOOL"),
        pytest.param(pa.array(['é"\n']), '"é\\"\\n"', id="STRING"),
        pytest.param(pa.array([b"\x00\xff"]), '"AP8="', id="BYTES are base64"),
        pytest.param(pa.array([18628], pa.date32()), '"2021-01-01"', id="DATE"),
        pytest.param(pa.array([time(1, 2, 3)], pa.time64("us")), '"01:02:03.000000"', id="TIME"),
        pytest.param(pa.array([1], pa.timestamp("us")), '"1970-01-01T00:00:00.000001"', id="DATETIME has no zone"),
        pytest.param(
            pa.array([1], pa.timestamp("us", "UTC")), '"1970-01-01T00:00:00.000001Z"', id="TIMESTAMP ends with Z"
        ),
        pytest.param(
            pa.array([0], pa.timestamp("s", "Europe/Paris")), '"1970-01-01T00:00:00.000000Z"', id="whatever its zone"
        ),
        pytest.param(
            pa.array([1_999], pa.timestamp("ns", "UTC")), '"1970-01-01T00:00:00.000001Z"', id="nanoseconds are cut off"
        ),
        pytest.param(
            pa.array([(14, -3, 3_723_500_000_000)], pa.month_day_nano_interval()), '"1-2 -3 1:2:3.5"', id="INTERVAL"
        ),
        pytest.param(
            pa.array([(-14, 0, -1_000)], pa.month_day_nano_interval()), '"-1-2 0 -0:0:0.000001"', id="a negative one"
        ),
        pytest.param(pa.array([{"a": {"b": 1}}]), '{"a":{"b":1}}', id="STRUCT"),
        pytest.param(
            pa.array([{"start": 18628, "end": None}], pa.struct([("start", pa.date32()), ("end", pa.date32())])),
            '{"start":"2021-01-01","end":null}',
            id="RANGE is a struct",
        ),
        pytest.param(pa.array([["a", "b"]]), '["a","b"]', id="REPEATED"),
        pytest.param(pa.array([[{"b": b"x"}], []])[:1], '[{"b":"eA=="}]', id="REPEATED RECORD"),
        pytest.param(pa.array([[]], pa.list_(pa.int64())), "[]", id="an empty list"),
        pytest.param(pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), '[{"key":"k","value":1}]', id="a map"),
        pytest.param(pa.array(["a"]).dictionary_encode(), '"a"', id="a dictionary"),
        pytest.param(pa.array(['{"a": 1.50}'], pa.json_()), '{"a": 1.50}', id="Arrow's JSON is embedded as it is"),
    ],
)
def test_a_value_is_written_as_bigquery_loads_it(array: pa.Array, text: str) -> None:
    assert encode(pa.table({"v": array})) == [f'{{"v":{text}}}'.encode()]


def test_bigquerys_json_columns_are_embedded_wherever_they_stand() -> None:
    field = pa.field("j", pa.string(), metadata=JSON_MARK)
    nested = pa.StructArray.from_arrays([pa.array(['{"a": 1}', None])], fields=[field])
    table = pa.table([pa.array(["[1]", None]), nested], schema=pa.schema([field, pa.field("s", nested.type)]))
    assert encode(table) == [b'{"j":[1],"s":{"j":{"a": 1}}}', b'{"j":null,"s":{"j":null}}']


@pytest.mark.parametrize(
    "kind",
    [
        pa.int64(), pa.float64(), pa.decimal128(38, 9), pa.string(), pa.binary(), pa.date32(), pa.time64("us"),
        pa.timestamp("us", "UTC"), pa.month_day_nano_interval(), pa.struct([("a", pa.int64())]),
        pa.list_(pa.int64()), pa.json_(), pa.null(),
    ],
    ids=str,
)  # fmt: skip
def test_null_stays_null(kind: pa.DataType) -> None:
    assert encode(pa.table({"v": pa.array([None], kind)})) == [b'{"v":null}']


def test_rows_of_a_slice_are_the_rows_of_the_whole() -> None:
    values: list[Any] = [{"n": n, "l": [{"x": n}] * n} if n % 3 else None for n in range(9)]
    table = pa.table({"v": pa.array(values)})
    assert encode(table.slice(4, 3)) == encode(table)[4:7]
    assert [json.loads(row)["v"] for row in encode(table)] == values


def test_a_type_that_bigquery_lacks_is_refused_by_name() -> None:
    with pytest.raises(SourceError, match=r"column took is duration\[s\]: BigQuery has no such type; convert it"):
        encode(pa.table({"took": pa.array([1], pa.duration("s"))}))
