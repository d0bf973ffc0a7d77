"""Dead letters: the rows that keep a message or a row that cannot be written, and why. The sink writes them."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from beam_jobs.transforms.records import Message, Row
from rejeu.message import ROW_ID
from rejeu.timeline import format_instant

log = logging.getLogger(__name__)

MAX_REASON_CHARS: Final = 1_000
"""Longest reason, cut in its middle: an error may repeat the wrong value, and says before or after it what is wrong."""
MAX_PAYLOAD_CHARS: Final = 700_000
"""Longest payload: BigQuery takes 10 MB a row as JSON, in which a character has up to 12 bytes."""


def dead_letter(stream: str, step: str, reason: str, message: Message, row_id: str | None = None) -> Row:
    """A row of DEAD_LETTER_COLUMNS; `row_id` is given where only one of the message's rows is refused."""
    row_id = row_id or message.row_id
    values = {
        "failed_at": format_instant(datetime.now(UTC)),
        "stream": stream,
        "step": step,
        "reason": _shortened(reason),
        ROW_ID: row_id,
        "payload": _payload(message.body),
        "attributes": json.dumps(dict(message.attributes)),
    }
    return Row(row_id, values, message)


def split_large(letter: Row) -> Iterator[Row]:
    """The letter; if its payload does not fit into a row, several letters under one row id.

    Their payloads, joined in the order of their reasons, are the whole; reasons then end like `(part 02 of 13)`.
    """
    payload = letter.values["payload"]
    parts = [payload[at : at + MAX_PAYLOAD_CHARS] for at in range(0, len(payload), MAX_PAYLOAD_CHARS)]
    if len(parts) <= 1:
        yield letter
        return
    for number, part in enumerate(parts, start=1):
        reason = f"{letter.values['reason']} (part {number:02} of {len(parts):02})"
        values = letter.values | {"reason": reason, "payload": part}
        yield Row(f"{letter.row_id}#part{number}", values, letter.message)


def never_lost(letter: Row) -> None:
    """Fail the bundle: a dead letter that its own table refuses must not be lost."""
    log.error("%s: dead letter %s cannot be written: %s", letter.values["stream"], letter.row_id, letter.values)
    raise RuntimeError(f"dead letter {letter.row_id} cannot be written ({letter.values['reason']}): mend its table")


def _shortened(reason: str) -> str:
    half = MAX_REASON_CHARS // 2
    return reason if len(reason) <= MAX_REASON_CHARS else f"{reason[:half]} … {reason[-half:]}"


def _payload(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(body).decode()
