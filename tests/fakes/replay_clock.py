"""A clock for tests of the replay; no fixture and no test."""

from __future__ import annotations

from collections.abc import Callable

from rejeu.replay.send.pacer import Clock
from rejeu.timeline import parse_instant, to_us

SECOND = 1_000_000
LONGEST_REAL_WAIT_SECONDS = 0.01
NOW = to_us(parse_instant("2026-11-20T12:00:00Z"))


class FakeClock(Clock):
    """Time that goes by only when it is waited for."""

    def __init__(self) -> None:
        self.us = NOW
        self._stepped_us = 0

    def step(self, us: int) -> None:
        """Somebody sets the wall clock."""
        self.us += us
        self._stepped_us += us

    def stepped_us(self) -> int:
        stepped_us, self._stepped_us = self._stepped_us, 0
        return stepped_us

    def now_us(self) -> int:
        return self.us

    def wait(self, seconds: float) -> None:
        self.us += round(seconds * SECOND)


class StandingClock(FakeClock):
    """Time that stands still until a test moves it, however long something waits in earnest."""

    meanwhile: Callable[[], object] | None = None
    """What a test does while the replay waits, in its thread."""

    def wait(self, seconds: float) -> None:
        if self.meanwhile is not None:
            self.meanwhile()
        Clock.wait(self, min(seconds, LONGEST_REAL_WAIT_SECONDS))
