"""Whether a lease's holder is gone, by how long its document stands still: no time of day is believed alone."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from rejeu.clocks import elapsed
from rejeu.state.model import StreamState
from rejeu.timeline import format_instant

KNOWN_CLOCK_SHARE: Final = 0.4
"""How much of a lease a document must stand still where the holder's clock is known: two checkpoints."""
LEAST_SHARE: Final = 0.25
"""How much of a lease clocks differ by at least before that is a difference."""
STEP_SHARE: Final = 0.4
"""What clocks are apart more or less than before, by this much of a lease, is a step of one of them."""
RENEWALS_KNOWN: Final = 5
"""From how many renewals a clock is known: after so many, a step of either clock is forgotten."""


class _Renewal(NamedTuple):
    """By how much this machine's clock was ahead of the holder's when that renewed its lease: between these."""

    least: timedelta
    most: timedelta


class LeaseWatch:
    """What one watcher has seen of a stream's lease, measured by its own elapsed time.

    A document that stood still for a lease is dead, whatever the clocks say. One whose lease has run out by this
    machine's clock alone may be renewed at this moment by another machine, whose clock is behind.
    """

    def __init__(self) -> None:
        self._seen = ""
        self._epoch = -1
        self._since = 0.0
        self._renewals: deque[_Renewal] = deque(maxlen=RENEWALS_KNOWN)
        self._looked = 0.0
        self._own_clock: float | None = None
        """The time of day less the elapsed time, which a step of this machine's clock changes."""
        self._told: frozenset[str] = frozenset()

    def believe(self, leases: frozenset[str]) -> None:
        """Somebody else has watched each of these leases stand still for long enough."""
        self._told = leases

    def ahead(self, state: StreamState, now: datetime) -> timedelta:
        """By how much this machine's clock is ahead of the holder's, as far as is known; notes what is seen now."""
        self._note(state, now)
        ahead = min((each.most for each in self._renewals), default=timedelta(0))
        # Less is the age of what was seen, rather than a difference of clocks.
        return ahead if abs(ahead).total_seconds() > _length(state) * LEAST_SHARE else timedelta(0)

    def is_held(self, state: StreamState, now: datetime) -> bool:
        """Whether somebody holds the lease at this time of the holder's, as far as is known."""
        if state.holder is None or state.lease_until is None:
            return False
        length = _length(state)
        stands_still = length > 0 and self._stood() >= length
        return not stands_still and state.lease_until > now

    def may_be_held(self, state: StreamState, now: datetime) -> bool:
        """Whether somebody may hold the lease at this time of this machine's: it is free once that is certain."""
        holders_now = now - self.ahead(state, now)
        return self.is_held(state, holders_now) or self.unsure_seconds(state) > 0

    def unsure_seconds(self, state: StreamState) -> float:
        """For how long a lease that is not held must still stand still before that is certain; 0 where it is."""
        if state.holder is None or state.lease_until is None or lease_of(state) in self._told:
            return 0.0
        length = _length(state)
        return max(0.0, (KNOWN_CLOCK_SHARE * length if self._is_clock_known(length) else length) - self._stood())

    def _is_clock_known(self, length: float) -> bool:
        """Whether the renewals seen agree on how far the holder's clock is from this one."""
        if not self._renewals:
            return False
        apart = max(each.least for each in self._renewals) - min(each.most for each in self._renewals)
        return apart.total_seconds() <= length * STEP_SHARE

    def _note(self, state: StreamState, now: datetime) -> None:
        self._mind_own_clock(now, _length(state))
        before, self._looked = self._looked, elapsed()
        lease = lease_of(state)
        if not lease or lease == self._seen:
            return
        if state.epoch != self._epoch:
            self._renewals.clear()
        elif state.heartbeat is not None:
            # It was renewed while we watched, between the look before and this one.
            age = now - state.heartbeat
            self._renewals.append(_Renewal(age - timedelta(seconds=self._looked - before), age))
        self._seen, self._epoch, self._since = lease, state.epoch, self._looked

    def _mind_own_clock(self, now: datetime, length: float) -> None:
        """Where this machine's clock was stepped since the last look, the holder's is not known any more."""
        own_clock = now.timestamp() - elapsed()
        if self._own_clock is not None and abs(own_clock - self._own_clock) > length * STEP_SHARE:
            self._renewals.clear()
        self._own_clock = own_clock

    def _stood(self) -> float:
        return elapsed() - self._since


def lease_of(state: StreamState) -> str:
    """What is another text after each renewal; empty where nobody holds the lease."""
    if state.holder is None or state.lease_until is None:
        return ""
    return f"{state.epoch}/{format_instant(state.lease_until)}"


def _length(state: StreamState) -> float:
    """How many seconds this lease lasts, by the holder's own clock; 0 where it does not say."""
    if state.lease_until is None or state.heartbeat is None:
        return 0.0
    return max(0.0, (state.lease_until - state.heartbeat).total_seconds())
