"""The encoder against its reference and against Python's own parser: any type, nesting, slice and chunk."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import types

from rejeu.replay.format.encode import encode
from tests.replay.exact_encoder import encode_exactly

pytestmark = pytest.mark.slow

Values = st.SearchStrategy[Any]

DAY_S: Final = 86_400
YEAR_1_S, YEAR_10000_S = -719_162 * DAY_S, 2_932_897 * DAY_S
PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
AWKWARD: Final = ["", '"', "\\", '","', ",", "\n", "\x00", "\x1f", "\x7f", "\u2028", "é", "𝄞", '\\"\n  "']
TEXT: Final = st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def instants(unit: str) -> Values:
    """Whatever the unit can count within the years that BigQuery has."""
    per = PER_SECOND[unit]
    first, last = max(YEAR_1_S * per, -(2**63) + 1), min(YEAR_10000_S * per, 2**63) - 1
    return st.sampled_from([first, -1, 0, 1, last]) | st.integers(first, last)


def decimals(digits: int, scale: int) -> Values:
    most = 10**digits - 1
    stored = st.sampled_from([0, 1, -1, most, -most]) | st.integers(-most, most)
    return stored.map(lambda value: Decimal((value < 0, tuple(map(int, str(abs(value)))), -scale)))


NATIVE: Final[dict[pa.DataType, Values]] = {
    pa.int64(): st.integers(-2, 20) | st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.int8(): st.integers(-128, 127),
    pa.float64(): st.sampled_from([-0.0, 5e-324, 1e22, 1e16, 1.7976931348623157e308]) | st.floats(allow_nan=False),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.string(): TEXT,
    pa.large_string(): TEXT,
    pa.string_view(): TEXT,
    pa.binary(): st.binary(max_size=7),
    pa.binary(5): st.binary(min_size=5, max_size=5),
    pa.decimal128(38, 9): decimals(38, 9),
    pa.decimal128(7, 0): decimals(7, 0),
    pa.decimal256(76, 38): decimals(76, 38),
    pa.date32(): st.dates(),
    pa.time64("us"): st.times(),
    pa.timestamp("us"): instants("us"),
    pa.timestamp("us", "UTC"): instants("us"),
    pa.null(): st.none(),
}
"""Types whose values Python has too."""

LEAVES: Final[dict[pa.DataType, Values]] = NATIVE | {
    pa.float64(): st.floats(),
    pa.float16(): st.floats(width=16),
    pa.large_binary(): st.binary(max_size=7),
    pa.decimal32(9, 2): decimals(9, 2),
    pa.decimal128(20, 20): decimals(20, 20),
    pa.time32("s"): st.integers(0, DAY_S - 1),
    pa.time64("ns"): st.integers(0, DAY_S * PER_SECOND["ns"] - 1),
    pa.timestamp("s", "Europe/Paris"): instants("s"),
    pa.timestamp("ms"): instants("ms"),
    pa.timestamp("ns", "UTC"): instants("ns"),
    pa.month_day_nano_interval(): st.tuples(
        st.integers(-200, 200), st.integers(-400, 400), st.integers(-(2**62), 2**62)
    ),
    pa.dictionary(pa.int32(), pa.string()): TEXT,
}
"""Every type of BigQuery's that Arrow can carry, and others that files have."""

EXTENSIONS: Final[dict[pa.DataType, Values]] = {
    pa.uuid(): st.binary(min_size=16, max_size=16),
    pa.json_(): st.recursive(st.none() | st.integers() | TEXT, st.lists, max_leaves=3).map(json.dumps),
}
"""Types that Arrow cannot make nested arrays of from Python's values."""

Kind = tuple[pa.DataType, Values]
"""A type, and values of it, some of them null."""


def nested(leaves: dict[pa.DataType, Values]) -> st.SearchStrategy[Kind]:
    leaf = st.sampled_from([(kind, st.none() | values) for kind, values in leaves.items()])
    return st.recursive(leaf, lambda kinds: lists(kinds) | structs(kinds), max_leaves=5)


def lists(kinds: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    def make(kind: Kind, make_type: Callable[[pa.DataType], pa.DataType]) -> Kind:
        size = 2 if make_type is pairs else None
        return make_type(kind[0]), st.none() | st.lists(kind[1], min_size=size or 0, max_size=size or 3)

    return st.builds(make, kinds, st.sampled_from([pa.list_, pa.large_list, pairs]))


def pairs(kind: pa.DataType) -> pa.DataType:
    return pa.list_(kind, 2)


def structs(kinds: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    def make(fields: dict[str, Kind]) -> Kind:
        kind = pa.struct([(name, field) for name, (field, _) in fields.items()])
        return kind, st.none() | st.fixed_dictionaries({name: values for name, (_, values) in fields.items()})

    return st.dictionaries(st.sampled_from(["a", "b", 'quo"ted', "é\n"]), kinds, min_size=1, max_size=3).map(make)


@st.composite
def arrays(draw: st.DrawFn, leaves: dict[pa.DataType, Values]) -> pa.Array:
    kind, values = draw(nested(leaves))
    return pa.array(draw(st.lists(values, max_size=9)), kind)


@settings(max_examples=200, deadline=None)
@given(first=arrays(LEAVES), data=st.data())
def test_rows_have_the_references_bytes_however_they_are_cut(first: pa.Array, data: st.DataObject) -> None:
    length = len(first)
    table = pa.table({"v": first, "n": pa.array(range(length)), "w": first})
    rows = encode_exactly(table)
    assert encode(table).to_pylist() == rows

    start = data.draw(st.integers(0, length))
    end = data.draw(st.integers(start, length))
    cut = data.draw(st.integers(start, end))
    assert encode(table.slice(start, end - start)).to_pylist() == rows[start:end]
    chunked = pa.concat_tables([table.slice(start, cut - start), table.slice(cut, end - cut)])
    assert encode(chunked).to_pylist() == rows[start:end]


@settings(max_examples=100, deadline=None)
@given(array=arrays(NATIVE))
def test_rows_mean_what_python_reads_from_them(array: pa.Array) -> None:
    rows = encode(pa.table({"v": array})).to_pylist()
    assert [meaning(json.loads(row)["v"], array.type) for row in rows] == array.to_pylist()


@pytest.mark.parametrize(("kind", "values"), (LEAVES | EXTENSIONS).items(), ids=map(str, LEAVES | EXTENSIONS))
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_every_type_has_the_references_bytes_alone_and_nested(
    kind: pa.DataType, values: Values, data: st.DataObject
) -> None:
    array = pa.array(data.draw(st.lists(st.none() | values, max_size=9)), kind)
    structs = pa.StructArray.from_arrays([array], ["a"])
    lists = pa.ListArray.from_arrays(pa.array(range(len(array) + 1), pa.int32()), array)
    table = pa.table({"v": array, "s": structs, "l": lists})
    rows = encode_exactly(table)
    assert encode(table).to_pylist() == rows
    assert encode(table.slice(1, 3)).to_pylist() == rows[1:4]


@settings(deadline=None)
@given(
    values=st.lists(st.integers(0, 99), min_size=6, max_size=6), nulls=st.lists(st.booleans(), min_size=6, max_size=6)
)
def test_what_lies_below_a_null_is_not_shown(values: list[int], nulls: list[bool]) -> None:
    numbers, mask = pa.array(values), pa.array(nulls)
    texts = pa.array([f'"{value}' for value in values])
    structs = pa.StructArray.from_arrays([numbers, texts], ["n", "t"], mask=mask)
    lists = pa.ListArray.from_arrays(pa.array(range(7)), structs, mask=mask)
    table = pa.table({"s": structs, "l": lists})
    rows = encode(table).to_pylist()
    assert rows == encode_exactly(table)
    assert [json.loads(row)["l"] is None for row in rows] == nulls
    assert encode(table.slice(2, 3)).to_pylist() == rows[2:5]


def meaning(value: Any, kind: pa.DataType) -> Any:
    """A JSON value as Arrow gives out what it was made from."""
    if value is None:
        return None
    if types.is_struct(kind):
        return {field.name: meaning(value[field.name], field.type) for field in kind}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return [meaning(each, kind.value_type) for each in value]
    return next((read(value) for is_type, read in READERS if is_type(kind)), value)


READERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], Any]], ...] = (
    (types.is_floating, float),
    (types.is_decimal, Decimal),
    (lambda kind: types.is_binary(kind) or types.is_fixed_size_binary(kind), base64.b64decode),
    (types.is_date32, date.fromisoformat),
    (types.is_time, time.fromisoformat),
    (types.is_timestamp, datetime.fromisoformat),
)
