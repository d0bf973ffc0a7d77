"""A dead letter says what, why and where, and is never lost in silence."""

from __future__ import annotations

import json
import logging

import pytest

from beam_jobs.transforms.dead_letters import MAX_REASON_CHARS, dead_letter, never_lost, split_large
from beam_jobs.transforms.records import Message
from beam_jobs.transforms.validate import fault_finder
from rejeu.spec.columns import DEAD_LETTER_COLUMNS

MAX_ROW_BYTES = 10_000_000
"""BigQuery's limit (https://cloud.google.com/bigquery/quotas#streaming_inserts)."""


@pytest.mark.parametrize(("body", "payload"), [(b'{"a": "\xc3\xa9"}', '{"a": "é"}'), (b"\xff\x00", "base64:/wA=")])
def test_a_dead_letter_fits_its_table_and_holds_the_whole_message(body: bytes, payload: str) -> None:
    letter = dead_letter("crypto_rates", "decode", "JSON is malformed", Message("s/1/k/0", body, {"epoch": "2"}))
    assert fault_finder(DEAD_LETTER_COLUMNS)(letter.values) is None
    assert set(letter.values) == {column.name for column in DEAD_LETTER_COLUMNS}
    assert letter.values["payload"] == payload
    assert json.loads(letter.values["attributes"]) == {"epoch": "2"}
    assert letter.values["row_id"] == letter.row_id == "s/1/k/0"


def test_a_reason_that_repeats_a_large_value_keeps_its_beginning_and_its_end() -> None:
    reason = dead_letter("crypto_rates", "decode", f"at: {'x' * 9_000_000} is no time", Message("1", b"", {})).values[
        "reason"
    ]
    assert reason.startswith("at: xxx")
    assert reason.endswith("xxx is no time")
    assert len(reason) < MAX_REASON_CHARS + 10


def test_a_letter_that_fits_into_a_row_is_one() -> None:
    letter = dead_letter("crypto_rates", "decode", "wrong", Message("s/1/k/0", b"", {}))
    assert [*split_large(letter)] == [letter]


@pytest.mark.parametrize("body", [b"x" * 9_000_000, b"\xff" * 9_000_000, "🚲".encode() * 2_250_000, b"\0" * 9_000_000])
def test_a_letter_too_large_for_a_row_is_several_that_hold_it_whole(body: bytes) -> None:
    letter = dead_letter("crypto_rates", "decode", "wrong", Message("s/1/k/0", body, {"epoch": "2"}))
    parts = [*split_large(letter)]
    in_order = sorted(parts, key=lambda part: str(part.values["reason"]))
    assert "".join(part.values["payload"] for part in in_order) == letter.values["payload"]
    assert {part.values["row_id"] for part in parts} == {"s/1/k/0"}
    assert len({part.row_id for part in parts}) == len(parts)
    assert max(len(json.dumps(part.values)) for part in parts) < MAX_ROW_BYTES


def test_a_dead_letter_that_cannot_be_written_fails_the_bundle_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    letter = dead_letter("crypto_rates", "insert", "no such field", Message("s/1/k/0", b"{}", {}))
    with pytest.raises(RuntimeError, match="s/1/k/0 cannot be written"):
        never_lost(letter)
    assert [(record.levelno, "s/1/k/0" in record.getMessage()) for record in caplog.records] == [(logging.ERROR, True)]
