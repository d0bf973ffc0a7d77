"""Of which orphans a person is to be told now: of a new one once it is sure, and of each once a day."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from rejeu.errors import StateConflictError
from rejeu.ports import StateStore
from rejeu.state.documents import ClockTime, Document, Part, read_document, save_document

DOCUMENT: Final = ".patrol"
"""No stream's name is empty, so it is no document of any."""
SURE: Final = timedelta(seconds=30)
"""A folder of specs may be just about to be replaced."""
AGAIN: Final = timedelta(days=1)


class Told(Part):
    """When an orphan was first seen, and when a person was told of it last."""

    seen_at: ClockTime
    told_at: ClockTime | None = None

    def is_due(self, now: datetime) -> bool:
        """Whether a person is to be told now."""
        return (self.seen_at + SURE if self.told_at is None else self.told_at + AGAIN) <= now


class PatrolDocument(Document):
    """What the patrol remembers from one look to the next."""

    orphans: dict[str, Told]


def to_be_told(store: StateStore, orphans: Iterable[str], now: datetime) -> list[str]:
    """Those of these orphans that a person is to be told of; whoever asks next is not told of them again.

    An orphan that has a spec again is forgotten. Raises StateError.
    """
    found, version = read_document(store, DOCUMENT, PatrolDocument)
    before = {} if found is None else found.orphans
    known = {stream: before.get(stream) or Told(seen_at=now) for stream in sorted(orphans)}
    due = [stream for stream, told in known.items() if told.is_due(now)]
    after = known | {stream: known[stream].model_copy(update={"told_at": now}) for stream in due}
    if after == before:
        return []
    document = PatrolDocument(orphans=after) if found is None else found.model_copy(update={"orphans": after})
    with suppress(StateConflictError):  # another patrol, which tells them
        save_document(store, DOCUMENT, document, version)
        return due
    return []
