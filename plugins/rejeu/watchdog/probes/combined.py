"""Several probes' verdicts as one: who is believed where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from rejeu.ports import Signal, Verdict, Witness
from rejeu.spec.probes import PROBES


def look(heartbeat: Verdict | None, witnesses: Sequence[Witness], now: datetime) -> Verdict:
    """The heartbeat's verdict and what the witnesses see now, as one; `heartbeat` is None where there is none.

    Where no row is due, or nobody need publish, witnesses are not asked but excused: a quiet stretch is no silence.
    """
    if heartbeat is not None and heartbeat.signal not in (Signal.FLOWING, Signal.SILENT):
        for witness in witnesses:
            witness.excuse(now)
        return heartbeat
    return combine(heartbeat, [witness.check(now) for witness in witnesses])


def combine(heartbeat: Verdict | None, others: Sequence[Verdict]) -> Verdict:
    """All verdicts as one, named after all that spoke; there must be one at least.

    The heartbeat knows what is due and who holds the lease, and is believed but for two cases. It is SILENT, yet
    another probe has seen the signal since: somebody publishes, a relaunch would make two of them, so FLOWING. It is
    FLOWING, yet another probe is SILENT since before the last acknowledged row: UNDELIVERED. Without a heartbeat, a
    SILENT probe is believed unless another has seen the signal since.
    """
    spoken = [*([] if heartbeat is None else [heartbeat]), *others]
    verdict = _without_heartbeat(others) if heartbeat is None else _with_heartbeat(heartbeat, others)
    return replace(
        verdict,
        probe="+".join(each.probe for each in spoken),
        missing=spoken[0].missing,
        look_again=min((each.look_again for each in spoken if each.look_again is not None), default=None),
    )


def _with_heartbeat(heartbeat: Verdict, others: Sequence[Verdict]) -> Verdict:
    if heartbeat.signal is Signal.SILENT and (witness := _has_seen_since(heartbeat.lost_at, others)):
        detail = (
            f"{witness.probe} has seen the signal since it was lost, so somebody publishes, though {heartbeat.detail}"
        )
        return Verdict(Signal.FLOWING, witness.last_seen, detail=detail)
    if heartbeat.signal is Signal.FLOWING:
        # Who sees no delivery cannot contradict here: that something was published is what the heartbeat says itself.
        receivers = [each for each in others if PROBES[each.probe].sees_delivery]
        for other in others:
            silent = other.signal is Signal.SILENT and _is_before(other.lost_at, heartbeat.last_seen)
            if silent and not _has_seen_since(other.lost_at, receivers):
                return replace(other, signal=Signal.UNDELIVERED)
    return heartbeat


def _without_heartbeat(others: Sequence[Verdict]) -> Verdict:
    for other in others:
        if other.signal is Signal.SILENT and not _has_seen_since(other.lost_at, others):
            return other
    return next((each for each in others if each.signal is Signal.FLOWING), others[0])


def _has_seen_since(lost_at: datetime | None, others: Sequence[Verdict]) -> Verdict | None:
    """The first that has the signal flowing, and saw it later than that."""
    return next(
        (each for each in others if each.signal is Signal.FLOWING and _is_before(lost_at, each.last_seen)), None
    )


def _is_before(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and one < other
