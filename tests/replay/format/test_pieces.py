"""Texts put together from pieces of all rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from rejeu.replay.format.pieces import Choice, Piece, Values, join, shown, spans

LETTERS = Values(pa.array([b"a", b"bb", b""], pa.large_binary()), np.array([2, 0, 1], np.int32))
MARKS = Choice((b"-", b"+"), np.array([True, False, True]))


def test_each_row_has_its_own_of_every_piece() -> None:
    pieces: list[Piece] = [Choice((b"<",)), MARKS, LETTERS, LETTERS, Choice((b">",))]
    assert join(pieces, 3).to_pylist() == [b"<+>", b"<-aa>", b"<+bbbb>"]


def test_what_is_not_shown_leaves_nothing_behind() -> None:
    pieces = shown([Choice((b"<",)), MARKS, LETTERS], np.array([True, False, True]))
    assert join([*pieces, Choice((b"!",))], 3).to_pylist() == [b"<+!", b"!", b"<+bb!"]
    assert join(shown(pieces, np.array([False, True, True])), 3).to_pylist() == [b"", b"", b"<+bb"]


def test_many_choices_side_by_side_are_kept_apart() -> None:
    assert join([MARKS] * 40, 3).to_pylist() == [b"+" * 40, b"-" * 40, b"+" * 40]


def test_spans_leave_out_what_lies_between() -> None:
    texts = spans(b"[one,two,,]", np.array([1, 5, 9]), np.array([4, 8, 9]))
    assert join([texts], 3).to_pylist() == [b"one", b"two", b""]


def test_no_rows_have_no_texts() -> None:
    assert join([Choice((b"<",))], 0).to_pylist() == []
