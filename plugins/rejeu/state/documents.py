"""The names of a stream's documents in a store: its own, and side documents, which others than its holder write."""

from __future__ import annotations

from enum import StrEnum

from rejeu.ports import StateStore


class SideDocument(StrEnum):
    """A document beside the stream's own, which is not written by the replay that holds the stream."""

    STANDBY = "standby"
    LAUNCH_LOCK = "launch_lock"
    RECONCILED = "reconciled"

    def of(self, stream: str) -> str:
        """The document's name. Its dot tells it from the stream's own document, whose name has none."""
        return f"{stream}.{self}"


def stream_names(store: StateStore) -> list[str]:
    """The streams and shards that the store knows. Raises StateError."""
    return [name for name in store.names() if "." not in name]
