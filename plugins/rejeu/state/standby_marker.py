"""The standby marker: a side document in which a standby says that it is ready to take over the stream."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Final

from rejeu.errors import StateConflictError
from rejeu.ports import StateStore
from rejeu.state.documents import ClockTime, Document, SideDocument, read_document, save_document

RENEWALS_MISSED: Final = 3
"""A standby counts as gone when it has missed so many renewals."""


class StandbyMarker(Document):
    """Who stands by, and until when nothing need be heard of it."""

    who: str
    until: ClockTime


def mark_standby(store: StateStore, stream: str, who: str, until: datetime) -> None:
    """Say that `who` stands by until this instant; the last one to say so wins. Raises StateError."""
    name = SideDocument.STANDBY.of(stream)
    found, version = read_document(store, name, StandbyMarker)
    marker = (
        StandbyMarker(who=who, until=until) if found is None else found.model_copy(update={"who": who, "until": until})
    )
    with suppress(StateConflictError):
        save_document(store, name, marker, version)


def stands_by(store: StateStore, stream: str, now: datetime) -> bool:
    """Whether there is a standby at this instant. Raises StateError."""
    found, _ = read_document(store, SideDocument.STANDBY.of(stream), StandbyMarker)
    return found is not None and found.until > now
