"""Whatever a message holds, it becomes rows or a dead letter, and the ones after it go on."""

from __future__ import annotations

import pytest
from apache_beam import Create
from apache_beam.testing.util import assert_that

from beam_jobs.transforms.decode import Decode
from beam_jobs.transforms.records import Row
from tests.beam_jobs.builders import STREAM, make_message, pipeline_here


def decode(body: bytes) -> list[dict[str, object]]:
    """A decoder that fails as this message says."""
    match body:
        case b"wrong":
            raise ValueError("it is wrong")
        case b"deep":
            raise RecursionError("maximum recursion depth exceeded")
        case b"large":
            raise OverflowError("date value out of range")
    return [{"body": body.decode()}]


@pytest.mark.parametrize(
    ("body", "reason"), [(b"wrong", "it is wrong"), (b"deep", "recursion depth"), (b"large", "out of range")]
)
def test_a_message_that_cannot_be_decoded_is_a_dead_letter_and_the_next_is_a_row(body: bytes, reason: str) -> None:
    def check_letters(letters: list[Row]) -> None:
        [letter] = letters
        assert (letter.row_id, letter.values["step"]) == ("s/1/k/0", "decode")
        assert reason in letter.values["reason"]

    def check_rows(rows: list[Row]) -> None:
        assert [row.row_id for row in rows] == ["s/2/k/0"]

    messages = [make_message(body, "s/1/k/0"), make_message(b"good", "s/2/k/0")]
    with pipeline_here() as pipeline:
        rows, dead = pipeline | Create(messages) | Decode(STREAM, lambda: decode)
        assert_that(dead, check_letters, "letters")
        assert_that(rows, check_rows, "rows")
