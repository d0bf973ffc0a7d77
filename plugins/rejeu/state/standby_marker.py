"""The standby marker: a side document in which a standby says that it is ready to take over the stream."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Final

from rejeu.errors import StateConflictError
from rejeu.ports import StateStore
from rejeu.state.documents import SideDocument
from rejeu.timeline import format_instant, parse_instant

RENEWALS_MISSED: Final = 3
"""A standby counts as gone when it has missed so many renewals."""


def mark_standby(store: StateStore, stream: str, who: str, until: datetime) -> None:
    """Say that `who` stands by until this instant; the last one to say so wins. Raises StateError."""
    found = store.load(SideDocument.STANDBY.of(stream))
    with suppress(StateConflictError):
        store.save(
            SideDocument.STANDBY.of(stream),
            {"who": who, "until": format_instant(until)},
            found.version if found else None,
        )


def stands_by(store: StateStore, stream: str, now: datetime) -> bool:
    """Whether there is a standby at this instant. Raises StateError."""
    found = store.load(SideDocument.STANDBY.of(stream))
    return found is not None and parse_instant(found.document["until"]) > now
