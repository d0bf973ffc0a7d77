"""Arrow rows to JSON in BigQuery's load format, every type spelled out; nothing about order, ids or messages.

A value is written so that a load into a column of its BigQuery type gives the same value back:
https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-json#details_of_loading_json_data
Its bytes depend on the value and its type alone, never on the rows around it: row ids are made from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from rejeu.bigquery import types as column_types
from rejeu.bigquery.types import STRING, ColumnType
from rejeu.errors import SourceError
from rejeu.replay.format import json_text
from rejeu.replay.format.pieces import BINARY, NOTHING, Choice, Piece, Values, binary, join, shown

EXTENSION = b"ARROW:extension:name"
ROW: Final = pa.field("row", pa.struct([]))


def encode(table: pa.Table) -> pa.LargeBinaryArray:
    """Each row as one JSON object, columns in the table's order; NULL is kept as null.

    Of columns with the same name the last one counts. Raises SourceError for a column whose type BigQuery does not
    have, or whose text is not UTF-8.
    """
    batches = table.combine_chunks().to_batches()
    return _one([_texts(batch.to_struct_array(), ROW) for batch in batches], BINARY)


def key_values(column: pa.ChunkedArray, field: pa.Field) -> pa.LargeStringArray:
    """The values as they stand in a row id: text as it is, everything else as its JSON text without quotes.

    Null stays null. Raises SourceError as `encode` does.
    """
    return _one([_key_texts(chunk, field) for chunk in column.chunks], json_text.TEXT)


def _key_texts(array: pa.Array, field: pa.Field) -> pa.LargeStringArray:
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if _is_text(array.type) and _text_type(field) is STRING:
        return array.cast(json_text.TEXT)
    written = pc.ascii_trim(_texts(array, field.with_type(array.type)).view(json_text.TEXT), '"')
    return pc.if_else(array.is_valid(), written, None) if array.null_count else written


def _texts(array: pa.Array, field: pa.Field) -> pa.LargeBinaryArray:
    return join(_pieces(array, field), len(array))


def _pieces(array: pa.Array, field: pa.Field) -> list[Piece]:
    """What each row's value is written with, its quotes and its nulls included."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray) and not isinstance(kind, pa.UuidType):
        marked = field.with_type(kind.storage_type).with_metadata({EXTENSION: kind.extension_name.encode()})
        return _pieces(array.storage, marked)
    if types.is_dictionary(kind):
        return _nullable(_words(array, field), array)
    if types.is_map(kind):
        entries = pa.list_(pa.struct([kind.key_field, kind.item_field]))
        return _pieces(array.cast(entries), field.with_type(entries))
    if types.is_struct(kind):
        return _nullable(_members(array), array, "{}")
    if _is_list(kind):
        return _nullable(_elements(array, field), array, "[]")
    if _is_text(kind):
        return _text(array.cast(json_text.TEXT), field)
    return _scalar(array, field)


def _scalar(array: pa.Array, field: pa.Field) -> list[Piece]:
    kind = array.type
    for each in column_types.TYPES:
        if each.is_arrow is not None and each.is_arrow(kind):
            return _nullable(getattr(json_text, each.json)(array), array, each.quotes)
    if types.is_null(kind):
        return _nullable(json_text.nulls(array), array)
    if isinstance(kind, pa.UuidType):
        return _nullable(json_text.uuids(array.storage), array, '""')
    raise SourceError(f"column {field.name} is {kind}: BigQuery has no such type; convert it or leave it out")


def _nullable(value: Sequence[Piece], array: pa.Array, around: str = "") -> list[Piece]:
    """The value within its quotes or brackets, or null."""
    half = len(around) // 2
    before, after = around[:half].encode(), around[half:].encode()
    if array.null_count == 0:
        return [Choice((before,)), *value, Choice((after,))]
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    return [Choice((b"null", before), valid), *shown(value, valid), Choice((b"", after), valid)]


def _members(array: pa.StructArray) -> list[Piece]:
    pieces: list[Piece] = []
    # A name that comes again has its first place and its last value, as in a Python dict.
    for name, index in {field.name: index for index, field in enumerate(array.type)}.items():
        pieces.append(Choice(((b"," if pieces else b"") + orjson.dumps(name) + b":",)))
        pieces.extend(_pieces(array.field(index), array.type.field(index)))
    return pieces


def _elements(array: pa.ListArray, field: pa.Field) -> list[Piece]:
    """The texts of a list's elements lie side by side: those of a row are one text already, commas included."""
    item, values = array.type.value_field, array.flatten()
    if _text_type(field) is not STRING:
        item = item.with_metadata(field.metadata)
    ends = np.cumsum(pc.list_value_length(array).fill_null(0).to_numpy(), dtype=np.int64)
    starts = np.concatenate([[0], ends])
    follows = np.ones(len(values), np.bool_)
    follows[starts[:-1][starts[:-1] < ends]] = False
    pieces = [Choice((b"", b","), follows), *_pieces(values, item)]
    if not len(values):
        return []
    _, offsets, data = join(pieces, len(values)).buffers()
    return [Values(binary(np.frombuffer(offsets, np.int64)[starts], data), np.arange(len(array), dtype=np.int32))]


def _words(array: pa.DictionaryArray, field: pa.Field) -> list[Piece]:
    words = _texts(array.dictionary, field.with_type(array.type.value_type))
    # Below a null of a struct an index may point to nowhere; `dictionary_decode` would stumble over it.
    which = json_text.numbers(array.indices).astype(np.int32)
    return [Values(words, np.where((which >= 0) & (which < len(words)), which, NOTHING))]


def _text(array: pa.LargeStringArray, field: pa.Field) -> list[Piece]:
    try:
        kind = _text_type(field)
        return _nullable(getattr(json_text, kind.json)(array), array, kind.quotes)
    except pa.ArrowInvalid as error:
        raise SourceError(f"column {field.name} has text that is not UTF-8 ({error}): read it as BYTES") from None


def _text_type(field: pa.Field) -> ColumnType:
    """What a text is: a STRING, unless an extension says otherwise."""
    mark = (field.metadata or {}).get(EXTENSION)
    return next((each for each in column_types.TYPES if mark in each.extensions), STRING) if mark else STRING


def _is_text(kind: pa.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)  # type: ignore[no-any-return]


def _is_list(kind: pa.DataType) -> bool:
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)  # type: ignore[no-any-return]


def _one(arrays: list[pa.Array], kind: pa.DataType) -> pa.Array:
    return arrays[0] if len(arrays) == 1 else pa.chunked_array(arrays, kind).combine_chunks()
