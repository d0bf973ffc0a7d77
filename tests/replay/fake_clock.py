"""A clock for tests of the replay; no fixture and no test."""

from __future__ import annotations

from rejeu.replay.send.pacer import Clock
from rejeu.timeline import parse_instant, to_us

SECOND = 1_000_000
NOW = to_us(parse_instant("2026-11-20T12:00:00Z"))


class FakeClock(Clock):
    """Time that goes by only when it is waited for."""

    def __init__(self) -> None:
        self.us = NOW

    def now_us(self) -> int:
        return self.us

    def wait(self, seconds: float) -> None:
        self.us += round(seconds * SECOND)
