"""The watch's note: a side document in which the watch in the triggerer keeps what its next one must know.

It is written when something is told, and when the watch goes blind or sees again, never at a mere look.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

from rejeu.errors import StateConflictError
from rejeu.ports import StateStore
from rejeu.state.documents import ClockTime, Document, SideDocument, read_document, save_document


class WatchNote(Document):
    """What the watch told last, and since when it cannot look."""

    told_at: ClockTime | None = None
    needs: tuple[str, ...] = ()
    """What was to be repaired then, and has not been well since."""
    blind_since: ClockTime | None = None
    blind_why: str = ""

    def blindness(self, stream: str) -> str:
        """In words, that this watch cannot look; nothing where it can."""
        if self.blind_since is None:
            return ""
        return f"{stream}: its watch in the triggerer cannot look since {self.blind_since:%H:%M:%S}: {self.blind_why}"


def read_note(store: StateStore, stream: str) -> WatchNote:
    """The stream's note; an empty one where none was written. Raises StateError."""
    found, _ = read_document(store, SideDocument.WATCH.of(stream), WatchNote)
    return found or WatchNote()


def note_told(store: StateStore, stream: str, needs: list[str], at: datetime) -> None:
    """Remember that this was told. Raises StateError."""
    _note(store, stream, {"told_at": at, "needs": tuple(needs)})


def note_well(store: StateStore, stream: str) -> None:
    """Remember that nothing needs repair any more. Raises StateError."""
    _note(store, stream, {"needs": ()})


def note_blind(store: StateStore, stream: str, since: datetime, why: str) -> None:
    """Remember that the watch cannot look. Raises StateError."""
    _note(store, stream, {"blind_since": since, "blind_why": why})


def note_sight(store: StateStore, stream: str) -> None:
    """Remember that the watch can look. Raises StateError."""
    _note(store, stream, {"blind_since": None, "blind_why": ""})


def _note(store: StateStore, stream: str, fields: dict[str, Any]) -> None:
    name = SideDocument.WATCH.of(stream)
    found, version = read_document(store, name, WatchNote)
    note = (found or WatchNote()).model_copy(update=fields)
    with suppress(StateConflictError):  # with the watch of another triggerer, which knows as much
        save_document(store, name, note, version)
