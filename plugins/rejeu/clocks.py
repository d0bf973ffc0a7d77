"""Elapsed time that counts through a suspend: what leases, pacing and watchers measure by; it knows no time of day."""

from __future__ import annotations

import time
from typing import Final

CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux stops CLOCK_MONOTONIC while the machine sleeps, and macOS lets it run on (`man 2 clock_gettime`)."""


def elapsed_ns() -> int:
    """Nanoseconds since some moment, which no step of the wall clock changes."""
    return time.clock_gettime_ns(CLOCK)


def elapsed() -> float:
    """The same in seconds."""
    return elapsed_ns() / 1e9
