"""What the watch in the triggerer leaves beside the stream's document: what it told last, and that it cannot look.

It is written when something is told, and when the watch goes blind or sees again, never at a mere look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from rejeu.errors import StateConflictError
from rejeu.ports import StateStore
from rejeu.state.documents import ClockTime, Document, SideDocument, read_document, save_document


class WatchNote(Document):
    """What the watch told last."""

    told_at: ClockTime
    needs: tuple[str, ...] = ()
    """What was to be repaired then, and has not been well since."""


class Blindness(Document):
    """That the watch cannot look; where it can, there is no such document."""

    since: ClockTime
    why: str


def read_note(store: StateStore, stream: str) -> WatchNote | None:
    """The stream's note; None where nothing was told yet. Raises StateError."""
    found, _ = read_document(store, SideDocument.TOLD.of(stream), WatchNote)
    return found


def write_note(store: StateStore, stream: str, note: WatchNote) -> None:
    """Remember that this was told. Raises StateError."""
    _save(store, SideDocument.TOLD.of(stream), note)


def note_blind(store: StateStore, stream: str, blindness: Blindness) -> None:
    """Leave word that the watch cannot look. Raises StateError."""
    _save(store, SideDocument.BLIND.of(stream), blindness)


def note_sight(store: StateStore, stream: str) -> None:
    """Take that word back, where it was left. Raises StateError."""
    name = SideDocument.BLIND.of(stream)
    found = store.load(name)
    if found is not None:
        with suppress(StateConflictError):  # somebody else took it back, or left it anew
            store.remove(name, found.version)


def blind_watches(store: StateStore, names: Sequence[str]) -> Iterator[str]:
    """Of each watch that cannot look, in words; `names` are those of the store's documents. Raises StateError."""
    suffix = f".{SideDocument.BLIND}"
    for name in names:
        if name.endswith(suffix):
            found, _ = read_document(store, name, Blindness)
            if found is not None:
                stream, since = name.removesuffix(suffix), f"{found.since:%Y-%m-%d %H:%M:%S}"
                yield f"{stream}: the watch in the triggerer sees no silence since {since} UTC: {found.why}"


def _save(store: StateStore, name: str, document: Document) -> None:
    found, version = read_document(store, name, type(document))
    kept = document if found is None else found.model_copy(update=dict(document))
    with suppress(StateConflictError):  # the watch of another triggerer, which knows as much
        save_document(store, name, kept, version)
