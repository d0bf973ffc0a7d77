"""A row comes out as it went in."""

from __future__ import annotations

import json

import pytest

from beam_jobs.pipelines.passthrough.transform import make_decoder


@pytest.mark.parametrize(
    "row",
    [
        {"name": "a", "count": 2**63 - 1, "rate": 0.1, "nested": {"list": [1, None, True]}},
        {"tiny": 1e-300, "huge": 1e300, "negative": -0.5, "whole": 1.0},
    ],
)
def test_a_row_is_what_its_json_says(row: dict[str, object]) -> None:
    assert make_decoder()(json.dumps(row).encode()) == [row]


def test_a_number_that_a_float_cannot_hold_keeps_its_digits() -> None:
    assert make_decoder()(b'{"amount": 12345678901234567.123456789}') == [{"amount": "12345678901234567.123456789"}]


@pytest.mark.parametrize("digits", ["1.5e999", "-1e99999999999999999999"])
def test_a_number_beyond_all_floats_keeps_its_digits(digits: str) -> None:
    assert make_decoder()(b'{"amount": %s}' % digits.encode()) == [{"amount": digits}]


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"cut": ', b"not json", b'{"latin": "\xe9"}', b"null"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        make_decoder()(body)
