"""The encoder's reference: every value on its own through Python and orjson, in BigQuery's load format."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

Values = list[Any]


def encode_exactly(table: pa.Table) -> list[bytes]:
    """Each row as one JSON object."""
    columns = [
        [value for chunk in table[index].chunks for value in _values(chunk)] for index in range(table.num_columns)
    ]
    return [orjson.dumps(dict(zip(table.column_names, row, strict=True))) for row in zip(*columns, strict=True)]


def _values(array: pa.Array) -> Values:
    if isinstance(array.type, pa.JsonType):
        return _each(array, orjson.Fragment)
    if isinstance(array.type, pa.UuidType):
        return _each(array, str)
    return next(convert(array) for is_type, convert in TYPES if is_type(array.type))


def _each(array: pa.Array, convert: Callable[[Any], Any]) -> Values:
    return [None if value is None else convert(value) for value in array.to_pylist()]


def _plain(array: pa.Array) -> Values:
    return array.to_pylist()  # type: ignore[no-any-return]


def _float(value: float) -> float | str:
    return value if math.isfinite(value) else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]


def _text(array: pa.Array) -> Values:
    return _plain(array.cast(pa.string()))


def _timestamps(array: pa.Array) -> Values:
    micros = array.cast(pa.timestamp("us", tz=array.type.tz), safe=False).cast(pa.timestamp("us"))
    return [None if text is None else text.replace(" ", "T") + ("Z" if array.type.tz else "") for text in _text(micros)]


def _interval(value: pa.MonthDayNano) -> str:
    years, months = divmod(abs(value.months), 12)
    seconds, micros = divmod(abs(value.nanoseconds) // 1_000, 1_000_000)
    fraction = f".{micros:06d}".rstrip("0") if micros else ""
    clock = f"{'-' * (value.nanoseconds < 0)}{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}{fraction}"
    return f"{'-' * (value.months < 0)}{years}-{months} {value.days} {clock}"


def _structs(array: pa.Array) -> Values:
    names = [field.name for field in array.type]
    columns = [_values(array.field(index)) for index in range(len(names))]
    return [
        dict(zip(names, [column[row] for column in columns], strict=True)) if valid else None
        for row, valid in enumerate(_plain(array.is_valid()))
    ]


def _lists(array: pa.Array) -> Values:
    values = iter(_values(array.flatten()))
    return _each(pc.list_value_length(array), lambda length: list(islice(values, length)))


def _maps(array: pa.Array) -> Values:
    return _lists(array.cast(pa.list_(pa.struct([array.type.key_field, array.type.item_field]))))


def _dictionaries(array: pa.Array) -> Values:
    """Below a null of a struct an index may point to nowhere."""
    words = dict(enumerate(_values(array.dictionary)))
    return [words.get(index) for index in array.indices.to_pylist()]


TYPES: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], Values]], ...] = (
    (lambda kind: types.is_null(kind) or types.is_boolean(kind) or types.is_integer(kind), _plain),
    (types.is_floating, lambda array: _each(array, _float)),
    (types.is_decimal, lambda array: _each(array, lambda value: format(value, "f"))),
    (lambda kind: types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind), _plain),
    (
        lambda kind: types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind),
        lambda array: _each(array, lambda value: base64.b64encode(value).decode()),
    ),
    (types.is_date32, _text),
    (types.is_time, lambda array: _text(array.cast(pa.time64("us"), safe=False))),
    (types.is_timestamp, _timestamps),
    (types.is_interval, lambda array: _each(array, _interval)),
    (types.is_struct, _structs),
    (types.is_map, _maps),
    (lambda kind: types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind), _lists),
    (types.is_dictionary, _dictionaries),
)
