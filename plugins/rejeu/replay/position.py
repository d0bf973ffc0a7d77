"""A place in a source, exact to the row; how it is saved is the state store's business."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Position:
    """Rows before `event_us` (microseconds since the epoch) are done, and the first `count` rows at exactly it."""

    event_us: int
    count: int = 0
