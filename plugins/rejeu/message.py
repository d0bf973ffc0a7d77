"""The contract of a message: which attributes it has and how its row id is made; not how it is encoded or sent.

The body is the row as one JSON object in BigQuery's load format. A row of the source has the same row id for ever,
however often it is published: `<stream>/<event time in µs>/<key>/<ordinal among equals>`. Rows that share time and
key and differ have a digest of the row behind the key.
"""

from __future__ import annotations

import hashlib
from typing import Final

ROW_ID: Final = "row_id"
EVENT_TIME: Final = "event_time"
STREAM: Final = "stream"
EPOCH: Final = "epoch"

MAX_MESSAGE_BYTES: Final = 10_000_000
"""Pub/Sub's limit for a message, and for a request (https://cloud.google.com/pubsub/quotas)."""
MAX_BODY_BYTES: Final = MAX_MESSAGE_BYTES - 3_000
"""What that leaves for the row itself when attributes, ordering key and topic are at their longest."""
MAX_REQUEST_MESSAGES: Final = 1_000
MAX_KEY_CHARS: Final = 200
"""Longer keys are hashed: an attribute's value may have 1,024 bytes, and ids are copied into every row."""

KEY_SEPARATOR: Final = "~"
NULL_KEY: Final = "\\N"


def digest(data: bytes) -> str:
    """A short name for bytes: of a key that is too long, or of a whole row where the feed has no key."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()
