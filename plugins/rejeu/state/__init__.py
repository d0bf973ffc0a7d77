"""What a stream remembers: lease, cursor, timeline and heartbeat, as one document a stream in a state store."""

from __future__ import annotations

from rejeu.errors import RequestError
from rejeu.ports import StateStore


def open_store(uri: str | None) -> StateStore:
    """The store behind a URI: `sqlite:PATH`, or None for one that this process alone remembers.

    Raises RequestError for a URI that names no store.
    """
    if uri is None:
        from rejeu.state.memory import MemoryStore

        return MemoryStore()
    kind, _, place = uri.partition(":")
    if kind == "sqlite" and place:
        from rejeu.state.sqlite import SqliteStore

        return SqliteStore(place)
    raise RequestError(f"state store {uri!r} is not known: write sqlite:PATH")
