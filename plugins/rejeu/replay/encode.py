"""Arrow rows to JSON in BigQuery's load format, every type spelled out; nothing about order, ids or messages.

A value is written so that a load into a column of its BigQuery type gives the same value back:
https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-json#details_of_loading_json_data
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from rejeu.errors import SourceError

EXTENSION = b"ARROW:extension:name"
JSON_EXTENSIONS = frozenset({b"google:sqlType:json", b"arrow.json"})
NOT_FINITE: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}

Values = list[Any]


def encode(table: pa.Table) -> list[bytes]:
    """Each row as one JSON object, columns in the table's order; NULL is kept as null.

    Raises SourceError for a column whose type BigQuery does not have.
    """
    names = table.column_names
    columns = [json_values(table[index], field) for index, field in enumerate(table.schema)]
    return [orjson.dumps(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def json_values(column: pa.ChunkedArray, field: pa.Field) -> Values:
    """The column's values as JSON has them: numbers, text, lists, dicts, None."""
    return [value for chunk in column.chunks for value in _values(chunk, field)]


def _values(array: pa.Array, field: pa.Field) -> Values:
    if isinstance(array, pa.ExtensionArray):
        name = array.type.extension_name.encode()
        if isinstance(array.type, pa.UuidType):
            return [None if value is None else str(value) for value in array.to_pylist()]
        return _values(array.storage, pa.field(field.name, array.storage.type, metadata={EXTENSION: name}))
    if (field.metadata or {}).get(EXTENSION) in JSON_EXTENSIONS:
        return _each(array, orjson.Fragment)
    for is_type, convert in TYPES:
        if is_type(array.type):
            return convert(array)
    raise SourceError(f"column {field.name} is {array.type}: BigQuery has no such type; convert it or leave it out")


def _each(array: pa.Array, convert: Callable[[Any], Any]) -> Values:
    return [None if value is None else convert(value) for value in array.to_pylist()]


def _plain(array: pa.Array) -> Values:
    return array.to_pylist()  # type: ignore[no-any-return]


def _floats(array: pa.Array) -> Values:
    values = _plain(array)
    if pc.all(pc.is_finite(array)).as_py() is not False:
        return values
    return [value if value is None or math.isfinite(value) else NOT_FINITE[str(value)] for value in values]


def _decimals(array: pa.Array) -> Values:
    return _each(array, _decimal_text)


def _decimal_text(value: Decimal) -> str:
    return format(value, "f")


def _binary(array: pa.Array) -> Values:
    return _each(array, lambda value: base64.b64encode(value).decode())


def _text(array: pa.Array) -> Values:
    """DATE and TIME: Arrow's own text is BigQuery's."""
    return _plain(array.cast(pa.string()))


def _times(array: pa.Array) -> Values:
    return _text(array.cast(pa.time64("us"), safe=False))


def _timestamps(array: pa.Array) -> Values:
    """`2021-05-01T00:00:00.000000Z`; a DATETIME has no zone. Much faster than `strftime`, here and in Arrow."""
    micros = array.cast(pa.timestamp("us", tz=array.type.tz), safe=False).cast(pa.timestamp("us"))
    text = pc.replace_substring(micros.cast(pa.string()), " ", "T", max_replacements=1)
    return _plain(text if array.type.tz is None else pc.binary_join_element_wise(text, "Z", ""))


def _intervals(array: pa.Array) -> Values:
    return _each(array, _interval_text)


def _interval_text(value: pa.MonthDayNano) -> str:
    """BigQuery's canonical `[-]Y-M [-]D [-]H:M:S[.F]`."""
    years, months = divmod(abs(value.months), 12)
    hours, rest = divmod(abs(value.nanoseconds) // 1_000, 3_600_000_000)
    minutes, micros = divmod(rest, 60_000_000)
    seconds = f"{micros // 1_000_000}" + (f".{micros % 1_000_000:06d}".rstrip("0") if micros % 1_000_000 else "")
    return (
        f"{'-' * (value.months < 0)}{years}-{months} {value.days} {'-' * (value.nanoseconds < 0)}"
        f"{hours}:{minutes}:{seconds}"
    )


def _structs(array: pa.Array) -> Values:
    names = [field.name for field in array.type]
    columns = [_values(array.field(index), field) for index, field in enumerate(array.type)]
    records: Values = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if not array.null_count:
        return records
    return [record if valid else None for record, valid in zip(records, _plain(array.is_valid()), strict=True)]


def _lists(array: pa.Array) -> Values:
    values = iter(_values(array.flatten(), array.type.value_field))
    return _each(pc.list_value_length(array), lambda length: list(islice(values, length)))


def _maps(array: pa.Array) -> Values:
    entries = pa.list_(pa.struct([array.type.key_field, array.type.item_field]))
    return _lists(array.cast(entries))


def _dictionaries(array: pa.Array) -> Values:
    return _values(array.dictionary_decode(), pa.field("", array.type.value_type))


TYPES: Final[tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], Values]], ...]] = (
    (types.is_null, _plain),
    (types.is_boolean, _plain),
    (types.is_integer, _plain),
    (types.is_floating, _floats),
    (types.is_decimal, _decimals),
    (lambda kind: types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind), _plain),
    (lambda kind: types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind), _binary),
    (types.is_date32, _text),
    (types.is_time, _times),
    (types.is_timestamp, _timestamps),
    (types.is_interval, _intervals),
    (types.is_struct, _structs),
    (types.is_map, _maps),
    (lambda kind: types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind), _lists),
    (types.is_dictionary, _dictionaries),
)
