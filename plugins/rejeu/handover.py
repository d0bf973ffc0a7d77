"""Where a replay starts, and why: what the live DAG decides, without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from rejeu.state.model import StreamState
from rejeu.timeline import HandOver, format_instant, from_us, hand_over_instant


class Start(StrEnum):
    """How the live DAG starts a stream."""

    ADOPT = "adopt"
    RESUME = "resume"
    AT = "at"
    FIRST_ROW = "first row"


@dataclass(frozen=True)
class Decision:
    """Where the replay starts and why; `at` is set for `Start.AT` alone."""

    start: Start
    at: datetime | None
    reason: str


def decide_start(
    state: StreamState | None, batch_max: datetime | None, rule: HandOver, wanted_start: datetime | None, now: datetime
) -> Decision:
    """Where the live DAG starts the replay.

    A start given by hand wins. A replay that runs is left alone. If the cursor is beyond the hand-over, the replay
    goes on from it, so that a second batch neither repeats nor skips rows. Else the batch hands over.
    """
    if wanted_start is not None:
        return Decision(Start.AT, wanted_start, f"started by hand at {format_instant(wanted_start)}")
    lives = state is not None and state.wanted and state.lease_until is not None and state.lease_until > now
    if state is not None and lives:
        return Decision(Start.ADOPT, None, f"epoch {state.epoch} publishes already ({state.holder})")
    hand_over = None if batch_max is None else hand_over_instant(batch_max, rule)
    if state is not None and state.cursor is not None:
        reached = from_us(state.cursor.event_us)
        if hand_over is None or reached >= hand_over:
            return Decision(Start.RESUME, None, f"goes on at the cursor, {format_instant(reached)}")
    if hand_over is not None and batch_max is not None:
        reason = f"the batch ends at {format_instant(batch_max)}; {rule} is {format_instant(hand_over)}"
        return Decision(Start.AT, hand_over, reason)
    return Decision(Start.FIRST_ROW, None, "no batch and no cursor: starts at the source's first row")
