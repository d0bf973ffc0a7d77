"""Row ids and the keys in them, as `rejeu.message` describes them, whole columns at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rejeu.message import KEY_SEPARATOR, MAX_KEY_CHARS, NULL_KEY, digest
from rejeu.replay.format.json_text import integers
from rejeu.replay.format.pieces import BINARY, Choice, Values, join

TEXT: Final = pa.large_string()
SLASH: Final = Choice((b"/",))


def key_texts(columns: Sequence[pa.LargeStringArray]) -> pa.LargeStringArray:
    """Each row's values in these columns (one or more) as one text; a text that is too long is hashed."""
    keys = pc.binary_join_element_wise(
        *columns, pa.scalar(KEY_SEPARATOR, TEXT), null_handling="replace", null_replacement=NULL_KEY
    )
    long = pc.greater(pc.utf8_length(keys), MAX_KEY_CHARS)
    if not pc.any(long).as_py():
        return keys
    short = pa.array([digest(key.encode()) for key in keys.filter(long).to_pylist()], TEXT)
    return pc.replace_with_mask(keys, long, short)


def row_ids(
    stream: str, event_us: NDArray[np.int64], keys: pa.LargeStringArray, data: pa.LargeBinaryArray
) -> pa.LargeStringArray:
    """The ids of rows in replay order; for each of their instants, all its rows must be among them."""
    count = len(event_us)
    rows = np.arange(count, dtype=np.int32)
    first = np.ones(count, dtype=bool)
    if count > 1:
        same_key = pc.equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
        first[1:] = (event_us[1:] != event_us[:-1]) | ~same_key
    if not first.all():
        keys, first = _told_apart(keys, data, first)
    ordinals = rows - np.maximum.accumulate(np.where(first, rows, 0))
    times, key = integers(pa.array(event_us)), Values(keys.view(BINARY), rows)
    pieces = [Choice((stream.encode(),)), SLASH, *times, SLASH, key, SLASH, *integers(pa.array(ordinals))]
    return join(pieces, count).view(TEXT)


def _told_apart(
    keys: pa.LargeStringArray, data: pa.LargeBinaryArray, first: NDArray[np.bool_]
) -> tuple[pa.LargeStringArray, NDArray[np.bool_]]:
    """Rows that share time and key and differ have their own digest in the key; `first` begins each group of equals.

    Else a row that comes to the source later could move the others' ordinals, and take the id of one of them.
    """
    seconds = np.flatnonzero(~first)
    same = pc.equal(data.take(pa.array(seconds)), data.take(pa.array(seconds - 1))).to_numpy(zero_copy_only=False)
    if same.all():
        return keys, first
    groups = np.cumsum(first) - 1
    differs = np.zeros(groups[-1] + 1, dtype=bool)
    differs[groups[seconds[~same]]] = True
    mixed, first = pa.array(differs[groups]), first.copy()
    first[seconds[~same]] = True
    own = pa.array([digest(body) for body in data.filter(mixed).to_pylist()], TEXT)
    longer = pc.binary_join_element_wise(keys.filter(mixed), own, pa.scalar(KEY_SEPARATOR, TEXT))
    return pc.replace_with_mask(keys, mixed, longer), first
