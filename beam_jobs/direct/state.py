"""The DirectRunner's memory of a key's windows, so that windows in which nothing happens cost nothing."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from apache_beam.transforms.trigger import InMemoryUnmergedState, MergeableStateAdapter
from apache_beam.transforms.window import IntervalWindow

WINDOW_IDS = MergeableStateAdapter.WINDOW_IDS
"""Where Beam keeps the known windows, each with the numbers of its timers and state."""


class Quiet(NamedTuple):
    """A window that is set aside, with its state by number."""

    window: IntervalWindow
    parts: dict[int, Any]


class KeyState(InMemoryUnmergedState):
    """A key's windows, of which Beam sees only those that have timers.

    Beam scans all windows that it sees for each bundle, and forgets none. A window without a timer is quiet: it writes
    nothing before its next record. So it is set aside, and fetched when records come that may belong to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._quiet: dict[int, Quiet] = {}
        self._starts: list[int] = []

    def copy(self) -> KeyState:
        """Itself. Beam copies it for each bundle, so that a failed one changes nothing. Here that is not needed: when a
        bundle is tried again, a window knows its records by id, and counts each once."""
        return self

    def fetch(self, windows: Iterable[IntervalWindow]) -> None:
        """Let Beam see the quiet windows that equal or overlap these."""
        for window in windows:
            # Quiet windows do not overlap, because those would have been merged: the last to start ends last.
            at = bisect_left(self._starts, window.end.micros)
            while at and (quiet := self._quiet[self._starts[at - 1]]).window.end > window.start:
                at -= 1
                del self._quiet[self._starts.pop(at)]
                self._window_ids[quiet.window] = list(quiet.parts)
                self.state.update(quiet.parts)

    def set_aside(self) -> None:
        """Hide the quiet windows from Beam, except the one with the highest number, from which it goes on counting."""
        highest = max((each for ids in self._window_ids.values() for each in ids), default=0)
        for window, ids in list(self._window_ids.items()):
            if highest not in ids and not any(each in self.timers for each in ids):
                del self._window_ids[window]
                parts = {each: self.state.pop(each, None) or defaultdict(list) for each in ids}
                self._quiet[window.start.micros] = Quiet(window, parts)
                insort(self._starts, window.start.micros)

    def seen(self, window_id: int) -> IntervalWindow | None:
        """The window of this number; None where Beam does not see it."""
        return next((window for window, ids in self._window_ids.items() if window_id in ids), None)

    @property
    def _window_ids(self) -> dict[IntervalWindow, list[int]]:
        ids: dict[IntervalWindow, list[int]] = self.global_state.setdefault(WINDOW_IDS.tag, {})
        return ids
