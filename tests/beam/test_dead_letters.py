"""A dead letter says what, why and where, and is never lost in silence."""

from __future__ import annotations

import json
import logging

import pytest

from beam_jobs.transforms.dead_letters import dead_letter, never_lost
from beam_jobs.transforms.records import Message
from beam_jobs.transforms.validate import find_fault
from rejeu.pipelines import DEAD_LETTER_COLUMNS


@pytest.mark.parametrize(("body", "payload"), [(b'{"a": "\xc3\xa9"}', '{"a": "é"}'), (b"\xff\x00", "base64:/wA=")])
def test_a_dead_letter_fits_its_table_and_holds_the_whole_message(body: bytes, payload: str) -> None:
    letter = dead_letter("crypto_rates", "decode", "JSON is malformed", Message("s/1/k/0", body, {"epoch": "2"}))
    assert find_fault(letter.values, DEAD_LETTER_COLUMNS) is None
    assert set(letter.values) == {column.name for column in DEAD_LETTER_COLUMNS}
    assert letter.values["payload"] == payload
    assert json.loads(letter.values["attributes"]) == {"epoch": "2"}
    assert letter.values["row_id"] == letter.row_id == "s/1/k/0"


def test_a_dead_letter_that_cannot_be_written_fails_the_bundle_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    letter = dead_letter("crypto_rates", "insert", "no such field", Message("s/1/k/0", b"{}", {}))
    with pytest.raises(RuntimeError, match="s/1/k/0 cannot be written"):
        never_lost(letter)
    assert [(record.levelno, "s/1/k/0" in record.getMessage()) for record in caplog.records] == [(logging.ERROR, True)]
