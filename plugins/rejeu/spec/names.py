"""How a stream and what belongs to it are called, where more than one room has to know."""

from __future__ import annotations

from typing import Final

STREAM_NAME: Final = r"^[a-z][a-z0-9_]{2,62}$"
SHARD_SUFFIX: Final = r"(-\d+-of-\d+)?"
"""What follows a stream's name in that of a shard's job and state: `Shard.suffix`, or nothing."""
STREAM_JOB: Final = "rejeu-stream-"
"""What the names of streaming jobs begin with, and of no others."""
OBSERVED_AT: Final = "observed_at"
"""When the rows of an API's answer happened: the one event time that such a source has."""
