"""Dead letters: what becomes of a message or a row that cannot be written. Where they are written is the sink's."""

from __future__ import annotations

import base64
import json
import logging
from datetime import UTC, datetime

from beam_jobs.transforms.records import Message, Row
from rejeu.message import ROW_ID
from rejeu.timeline import format_instant

logger = logging.getLogger(__name__)


def dead_letter(stream: str, step: str, reason: str, message: Message, row_id: str | None = None) -> Row:
    """A row of `rejeu.pipelines.DEAD_LETTER_COLUMNS`; `row_id` where only one of the message's rows died."""
    row_id = row_id or message.row_id
    values = {
        "failed_at": format_instant(datetime.now(UTC)),
        "stream": stream,
        "step": step,
        "reason": reason,
        ROW_ID: row_id,
        "payload": _payload(message.body),
        "attributes": json.dumps(dict(message.attributes)),
    }
    return Row(row_id, values, message)


def never_lost(letter: Row) -> None:
    """Fail the bundle: a dead letter that its own table refuses has nowhere else to go."""
    logger.error("%s: dead letter %s cannot be written: %s", letter.values["stream"], letter.row_id, letter.values)
    raise RuntimeError(f"dead letter {letter.row_id} cannot be written ({letter.values['reason']}): mend its table")


def _payload(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(body).decode()
