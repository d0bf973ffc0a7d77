"""What a stream remembers: lease, cursor, timeline and heartbeat, as one document a stream in a state store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from rejeu.errors import RequestError
from rejeu.ports import StateStore

BUCKET_URI: Final = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]+[a-z0-9])(/(?P<prefix>.*))?")


@dataclass(frozen=True)
class Rhythm:
    """How often a checkpoint is saved, and how long a silent holder keeps its lease."""

    checkpoint_seconds: float
    lease_seconds: float


LOCAL: Final = Rhythm(checkpoint_seconds=0.2, lease_seconds=1.2)
CLOUD: Final = Rhythm(checkpoint_seconds=1.0, lease_seconds=5.0)
"""Cloud Storage takes one write a second to an object, and may be slow to answer."""
CHECKPOINTS_A_LEASE: Final = 5


def rhythm(uri: str | None, checkpoint_seconds: float | None = None, lease_seconds: float | None = None) -> Rhythm:
    """What was asked for, else what suits the store of this URI; nothing is opened.

    Raises RequestError where a lease could run out between two checkpoints.
    """
    own = CLOUD if uri is not None and BUCKET_URI.fullmatch(uri) else LOCAL
    checkpoint = checkpoint_seconds or own.checkpoint_seconds
    lease = lease_seconds or max(own.lease_seconds, CHECKPOINTS_A_LEASE * checkpoint)
    if lease < 2 * checkpoint:
        rule = "a lease must outlast two checkpoints, or it runs out between them"
        raise RequestError(f"--lease-seconds is {lease:g} and --checkpoint-seconds {checkpoint:g}: {rule}")
    return Rhythm(checkpoint, lease)


def open_store(uri: str | None) -> StateStore:
    """The store of a URI: `sqlite:PATH`, `gs://BUCKET/PREFIX`, or None for one in this process's memory.

    Raises RequestError for a URI that names no store, StateError where the store cannot be opened.
    """
    if uri is None:
        from rejeu.state.memory import MemoryStore

        return MemoryStore()
    kind, _, path = uri.partition(":")
    if kind == "sqlite" and path:
        from rejeu.state.sqlite import SqliteStore

        return SqliteStore(path)
    if bucket := BUCKET_URI.fullmatch(uri):
        from rejeu.state.gcs import GcsStore

        prefix = (bucket["prefix"] or "").strip("/")
        if not prefix:
            rule = "it must name a folder too, or every JSON file of the bucket is taken for a stream"
            raise RequestError(f"state store {uri!r}: {rule}; write gs://{bucket['bucket']}/PREFIX")
        return GcsStore(bucket["bucket"], prefix)
    raise RequestError(f"state store {uri!r} is not known: write sqlite:PATH or gs://BUCKET/PREFIX")
