"""Joins the texts of many rows from pieces, one piece of all rows at a time; what the pieces mean is not known here.

One `take` from one pool gathers the pieces of all rows, row after row. The bytes of its result are the joined texts,
and every n-th of its offsets begins a row, for n pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BINARY: Final = pa.large_binary()
NOTHING: Final = -(2**30)
"""Small enough to stay below 0 after the position of the texts in the pool is added."""
MOST_CHOICES: Final = 64
"""Neighbouring choices become one choice of all their combinations, of at most so many."""


class Choice(NamedTuple):
    """A few texts: row r has `texts[which[r]]`. A number as `which` holds for all rows."""

    texts: tuple[bytes, ...]
    which: NDArray[np.integer] | NDArray[np.bool_] | int = 0


class Values(NamedTuple):
    """A column of texts without nulls: row r has `texts[which[r]]`, or no text where that is NOTHING."""

    texts: pa.LargeBinaryArray
    which: NDArray[np.int32]


Piece: TypeAlias = Choice | Values


def join(pieces: Sequence[Piece], rows: int) -> pa.LargeBinaryArray:
    """Each row's pieces as one text; the result's buffer has these bytes only.

    All pieces together may have about 2**30 texts, whose offsets alone would fill 8 GB.
    """
    if rows == 0:
        return pa.array([], BINARY)
    merged = _merged(pieces)
    constants = [b"", *(text for piece in merged if isinstance(piece, Choice) for text in piece.texts)]
    pool = [pa.array(constants, BINARY), *(piece.texts for piece in merged if isinstance(piece, Values))]
    index = np.empty((rows, len(merged)), np.int32)
    choices_at, values_at = 1, len(constants)
    for piece, column in zip(merged, index.T, strict=True):
        if isinstance(piece, Choice):
            np.add(piece.which, choices_at, out=column)
            choices_at += len(piece.texts)
        else:
            np.maximum(piece.which + values_at, 0, out=column)
            values_at += len(piece.texts)
    gathered = pa.concat_arrays(pool).take(pa.array(index.reshape(-1)))
    _, offsets, data = gathered.buffers()
    return binary(np.frombuffer(offsets, np.int64)[:: len(merged)].copy(), data)


def shown(pieces: Sequence[Piece], where: NDArray[np.bool_]) -> list[Piece]:
    """The same pieces in the rows of `where`, and no text in the others."""
    return [
        Choice((*piece.texts, b""), np.where(where, piece.which, len(piece.texts)))
        if isinstance(piece, Choice)
        else Values(piece.texts, np.where(where, piece.which, NOTHING))
        for piece in pieces
    ]


def spans(data: Any, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Values:
    """The texts that follow each other in a buffer, with gaps between them: row r has `starts[r]:ends[r]`."""
    offsets = np.empty(2 * len(starts), np.int64)
    offsets[0::2], offsets[1::2] = starts, ends
    return Values(binary(offsets, pa.py_buffer(data)), np.arange(0, len(offsets), 2, dtype=np.int32))


def binary(offsets: NDArray[np.int64], data: pa.Buffer) -> pa.LargeBinaryArray:
    """The texts between each offset and the next."""
    return pa.LargeBinaryArray.from_buffers(BINARY, max(len(offsets) - 1, 0), [None, pa.py_buffer(offsets), data])


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    merged: list[Piece] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if (
            isinstance(piece, Choice)
            and isinstance(last, Choice)
            and len(last.texts) * len(piece.texts) <= MOST_CHOICES
        ):
            texts = tuple(before + after for before in last.texts for after in piece.texts)
            merged[-1] = Choice(texts, last.which * len(piece.texts) + piece.which)
        else:
            merged.append(piece)
    return merged
