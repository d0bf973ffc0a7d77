"""Job names for platforms that have rules for them: shorter than ours, of lower-case letters, digits and dashes."""

from __future__ import annotations

import hashlib
import re
from typing import Final

ALL_JOBS: Final = "the jobs"
"""What is managed where no job is meant in particular, as errors say it."""
HASH = 10
"""How many hexadecimal digits make a shortened name unique."""

_FITS = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_FOREIGN = re.compile(r"[^a-z0-9]+")


def short_name(name: str, limit: int) -> str:
    """The name itself if it fits, else its beginning and a hash of all of it; at most `limit` characters.

    The name cannot be read from the hash: a launcher keeps it beside the job and compares it.
    """
    if len(name) <= limit and _FITS.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:HASH]
    head = _FOREIGN.sub("-", name.lower()).lstrip("-0123456789") or "job"
    return f"{head[: limit - HASH - 1].rstrip('-')}-{digest}"
