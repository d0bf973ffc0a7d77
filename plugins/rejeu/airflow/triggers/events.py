"""What the watch tells, as the payload of an event; nothing of Airflow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from rejeu.ports import Signal, Verdict
from rejeu.timeline import format_instant

CALLING: Final = frozenset({Signal.SILENT, Signal.UNDELIVERED})
"""What the watchdog DAG is called for, beside missing parts; only the first is mended by a relaunch."""


def needs_repair(verdict: Verdict) -> bool:
    """Whether the watchdog DAG has something to do."""
    return verdict.signal in CALLING or bool(verdict.missing)


def needs_of(verdict: Verdict) -> list[str]:
    """What is to be repaired, each by its name."""
    called = [verdict.signal.name] if verdict.signal in CALLING else []
    return called + sorted(part.name for part in verdict.missing)


def event_of(stream: str, verdict: Verdict) -> dict[str, Any]:
    """A verdict as the payload of an event."""
    return {
        "stream": stream,
        "signal": verdict.signal.name,
        "reason": verdict.reason.name if verdict.reason else None,
        "missing": sorted(part.name for part in verdict.missing),
        "detected_at": format_instant(datetime.now(UTC)),
        "lost_at": format_instant(verdict.lost_at) if verdict.lost_at else None,
        "last_seen": format_instant(verdict.last_seen) if verdict.last_seen else None,
        "probe": verdict.probe,
        "detail": verdict.detail,
        "lease": "" if verdict.unsure_seconds > 0 else verdict.lease,
    }
