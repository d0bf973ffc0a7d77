"""How a stream and what belongs to it are called, where more than one room has to know."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

from rejeu.spec.shapes import Shape

STREAM_NAME: Final = r"^[a-z][a-z0-9_]{2,62}$"
StreamName = Annotated[
    str,
    Shape(STREAM_NAME, "it must be 3 to 63 small letters, digits and underscores, of which the first is a letter"),
]
SHARD_SUFFIX: Final = r"(-\d+-of-\d+)?"
"""What follows a stream's name in that of a shard's job and state: `Shard.suffix`, or nothing."""
STREAM_JOB: Final = "rejeu-stream-"
"""What the names of streaming jobs begin with, and of no others."""
OBSERVED_AT: Final = "observed_at"
"""When the rows of an API's answer happened: the one event time that such a source has."""


def replay_job(stream: str, shard: str = "", *, twin: bool = False) -> str:
    """The job of a stream's replay, or of its `shard`, which is a suffix; as a `twin` that of the second of a pair.

    No two jobs have one name but the twin of a stream `orders` and the replay of a stream `orders_twin`, which
    `rejeu.spec.sharing` keeps apart.
    """
    kind = "shard" if shard else "replay"
    return f"rejeu-{kind}-{dashed(stream)}{shard}{'-twin' if twin else ''}"


def stream_job(stream: str) -> str:
    """The stream's streaming job."""
    return STREAM_JOB + dashed(stream)


def reconcile_job(stream: str) -> str:
    """The job that compares the stream with its source."""
    return f"rejeu-reconcile-{dashed(stream)}"


def number_of(stream: str, of: int) -> int:
    """To which of so many equal parts a stream falls, by its name alone: whatever other streams there are."""
    return int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest()) % of


def dashed(stream: str) -> str:
    """The stream's name as platforms take it. A stream's name has no dash, so no two become the same."""
    return stream.replace("_", "-")
