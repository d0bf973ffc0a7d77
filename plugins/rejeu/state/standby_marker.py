"""That somebody stands by for a stream: a document of its own, for the stream's own is its holder's to write."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Final

from rejeu.errors import StateConflictError
from rejeu.ports import StateStore
from rejeu.state.documents import SideDocument
from rejeu.timeline import format_instant, parse_instant

RENEWALS_MISSED: Final = 3
"""How many times it may fail to say so before it counts as gone."""


def mark_standby(store: StateStore, stream: str, who: str, until: datetime) -> None:
    """Say that `who` stands by until this instant; whoever says it last is believed. Raises StateError."""
    found = store.load(SideDocument.STANDBY.of(stream))
    with suppress(StateConflictError):
        store.save(
            SideDocument.STANDBY.of(stream),
            {"who": who, "until": format_instant(until)},
            found.version if found else None,
        )


def stands_by(store: StateStore, stream: str, now: datetime) -> bool:
    """Whether somebody stands by. Raises StateError."""
    found = store.load(SideDocument.STANDBY.of(stream))
    return found is not None and parse_instant(found.document["until"]) > now
