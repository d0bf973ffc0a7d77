"""The elements between steps: messages as they came, and rows with the message that they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from apache_beam.io.gcp.pubsub import PubsubMessage

from rejeu.message import ROW_ID

ROWS: Final = "rows"
"""The main output of every step that can refuse elements."""
DEAD: Final = "dead"
"""Its other output: dead letters."""


class Message(NamedTuple):
    """One message of a topic, or one line of a file, as it came."""

    row_id: str
    body: bytes
    attributes: Mapping[str, str]


class Row(NamedTuple):
    """One row to be written: its values by column, and the message that it was made from."""

    row_id: str
    values: dict[str, Any]
    message: Message


def from_pubsub(message: PubsubMessage) -> Message:
    """The message; a publisher that is not ours gives no row id, so the message's own id stands in."""
    return Message(message.attributes.get(ROW_ID) or message.message_id, message.data, message.attributes)
