"""Which documents a store holds for a stream: its own, and those beside it that others than its holder write."""

from __future__ import annotations

from enum import StrEnum

from rejeu.ports import StateStore


class Beside(StrEnum):
    """What is remembered beside a stream's own document."""

    STANDBY = "standby"
    LAUNCH_LOCK = "launch_lock"
    RECONCILED = "reconciled"

    def of(self, stream: str) -> str:
        """The document's name: no stream's own has a dot."""
        return f"{stream}.{self}"


def stream_names(store: StateStore) -> list[str]:
    """The streams, and their shards, of which the store knows. Raises StateError."""
    return [name for name in store.names() if "." not in name]
