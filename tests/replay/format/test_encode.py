"""Arrow values as JSON in BigQuery's load format, type by type."""

from __future__ import annotations

import json
from datetime import time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from rejeu.errors import SourceError
from rejeu.replay.format.encode import encode, key_values

JSON_MARK = {"ARROW:extension:name": "google:sqlType:json"}
NOT_TEXT = pa.array([b"fine", b"\xff"]).view(pa.string())
BIG = Decimal("-0.00000000000000000000000000000000000001")


def rows(table: pa.Table) -> list[bytes]:
    return encode(table).to_pylist()  # type: ignore[no-any-return]


def keys(column: pa.Array, metadata: dict[str, str] | None = None) -> list[str | None]:
    field = pa.field("k", column.type, metadata=metadata)
    return key_values(pa.chunked_array([column]), field).to_pylist()  # type: ignore[no-any-return]


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
        pytest.param(pa.array([18628 * 86_400_000], pa.date64()), '"2021-01-01"', id="a DATE in milliseconds"),
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
    assert rows(pa.table({"v": array})) == [f'{{"v":{text}}}'.encode()]


def test_bigquerys_json_columns_are_embedded_wherever_they_stand() -> None:
    field = pa.field("j", pa.string(), metadata=JSON_MARK)
    nested = pa.StructArray.from_arrays([pa.array(['{"a": 1}', None])], fields=[field])
    table = pa.table([pa.array(["[1]", None]), nested], schema=pa.schema([field, pa.field("s", nested.type)]))
    assert rows(table) == [b'{"j":[1],"s":{"j":{"a": 1}}}', b'{"j":null,"s":{"j":null}}']


def test_the_mark_of_a_repeated_json_column_is_its_items() -> None:
    field = pa.field("j", pa.list_(pa.string()), metadata=JSON_MARK)
    own = pa.field("j", pa.list_(pa.field("item", pa.string(), metadata=JSON_MARK)), metadata={"id": "1"})
    for schema in (pa.schema([field]), pa.schema([own])):
        assert rows(pa.table([pa.array([["1", '"a"', None]], schema[0].type)], schema)) == [b'{"j":[1,"a",null]}']


@pytest.mark.parametrize(
    "kind",
    [
        pa.int64(), pa.float64(), pa.decimal128(38, 9), pa.string(), pa.binary(), pa.date32(), pa.time64("us"),
        pa.timestamp("us", "UTC"), pa.month_day_nano_interval(), pa.struct([("a", pa.int64())]), pa.struct([]),
        pa.list_(pa.int64()), pa.list_(pa.string(), 2), pa.map_(pa.string(), pa.int64()), pa.uuid(), pa.json_(),
        pa.dictionary(pa.int8(), pa.string()), pa.null(),
    ],
    ids=str,
)  # fmt: skip
def test_null_stays_null(kind: pa.DataType) -> None:
    assert rows(pa.table({"v": pa.array([None], kind)})) == [b'{"v":null}']


def test_rows_of_a_slice_are_the_rows_of_the_whole() -> None:
    values: list[Any] = [{"n": n, "l": [{"x": n}] * n} if n % 3 else None for n in range(9)]
    table = pa.table({"v": pa.array(values)})
    assert rows(table.slice(4, 3)) == rows(table)[4:7]
    assert [json.loads(row)["v"] for row in rows(table)] == values


def test_any_number_of_columns_may_be_null_side_by_side() -> None:
    flags = [[None, True, False][number % 3] for number in range(60)]
    table = pa.Table.from_pylist([{f"c{at}": flag for at, flag in enumerate(flags[row:])} for row in range(3)])
    assert [json.loads(row) for row in rows(table)] == table.to_pylist()


def test_of_columns_with_one_name_the_last_counts_where_the_first_stands() -> None:
    table = pa.table([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "b", "a"])
    assert rows(table) == [b'{"a":3,"b":2}']


def test_a_name_is_escaped_as_a_value_is() -> None:
    assert rows(pa.table({'a"\n': [1]})) == [b'{"a\\"\\n":1}']


def test_rows_without_columns_are_empty_objects_and_no_rows_are_none() -> None:
    assert rows(pa.Table.from_struct_array(pa.array([{}, {}], pa.struct([])))) == [b"{}", b"{}"]
    assert rows(pa.table({"v": pa.array([], pa.list_(pa.string()))})) == []
    assert rows(pa.table({})) == []


def test_a_date_that_bigquery_lacks_is_written_as_arrow_prints_it() -> None:
    days = pa.array([2_932_896, 2_932_897, -719_163], pa.date32())
    assert rows(pa.table({"d": days})) == [b'{"d":"9999-12-31"}', b'{"d":"10000-01-01"}', b'{"d":"0000-12-31"}']


def test_the_result_holds_its_bytes_and_nothing_else() -> None:
    encoded = encode(pa.table({"n": range(1_000), "t": ["text"] * 1_000}))
    assert encoded.get_total_buffer_size() == sum(map(len, encoded.to_pylist())) + 8 * (len(encoded) + 1)


def test_a_type_that_bigquery_lacks_is_refused_by_name() -> None:
    with pytest.raises(SourceError, match=r"column took is duration\[s\]: BigQuery has no such type; convert it"):
        encode(pa.table({"took": pa.array([1], pa.duration("s"))}))


def test_text_that_is_not_utf8_is_refused_by_name() -> None:
    with pytest.raises(SourceError, match=r"column name has text that is not UTF-8 .*: read it as BYTES"):
        encode(pa.table({"name": NOT_TEXT}))


@pytest.mark.parametrize(
    ("column", "text"),
    [
        pytest.param(pa.array(['say "hi"\n']), 'say "hi"\n', id="text is not escaped"),
        pytest.param(pa.array(['"a"']).dictionary_encode(), '"a"', id="nor is that of a dictionary"),
        pytest.param(pa.array(["a"], pa.string_view()), "a", id="nor that of a view"),
        pytest.param(pa.array([-7]), "-7", id="a number"),
        pytest.param(pa.array([7]).dictionary_encode(), "7", id="a number of a dictionary"),
        pytest.param(pa.array([float("nan")]), "NaN", id="NaN"),
        pytest.param(pa.array([True]), "true", id="a BOOL is JSON"),
        pytest.param(pa.array([b"\x00\xff"]), "AP8=", id="BYTES are base64"),
        pytest.param(pa.array([0], pa.timestamp("us", "UTC")), "1970-01-01T00:00:00.000000Z", id="a TIMESTAMP"),
        pytest.param(pa.array([Decimal("1.5")], pa.decimal128(38, 9)), "1.500000000", id="NUMERIC"),
        pytest.param(pa.array([{"a": "x"}]), '{"a":"x"}', id="a STRUCT is JSON"),
        pytest.param(pa.array([["a"]]), '["a"]', id="so is a list"),
    ],
)
def test_a_key_is_text_as_it_is_or_json_without_quotes(column: pa.Array, text: str) -> None:
    assert keys(column) == [text]
    assert keys(pa.concat_arrays([column, column[:0]])[:1]) == [text]


def test_a_null_key_stays_null() -> None:
    assert keys(pa.array(["a", None])) == ["a", None]
    assert keys(pa.array([1, None])) == ["1", None]
    assert keys(pa.array(['"a"', "[1]", None]), JSON_MARK) == ["a", "[1]", None]
    assert key_values(pa.chunked_array([], pa.int64()), pa.field("k", pa.int64())).to_pylist() == []


def test_an_index_that_points_to_nowhere_below_a_null_is_no_text() -> None:
    word = pa.DictionaryArray.from_arrays(pa.array([4, 0], pa.int32()), ["a"], safe=False)
    words = pa.FixedSizeListArray.from_arrays(word, 1)
    struct = pa.StructArray.from_arrays([words], ["words"], mask=pa.array([True, False]))
    assert encode(pa.table({"it": struct})).to_pylist() == [b'{"it":null}', b'{"it":{"words":["a"]}}']
