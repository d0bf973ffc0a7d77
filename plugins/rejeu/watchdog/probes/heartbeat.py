"""The heartbeat probe: what the replay's own state says of the signal. It costs one read and knows what is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from rejeu.ports import Missing, ProbeKind, Reason, Signal, StateStore, Verdict, Watched
from rejeu.state.lease import read_state
from rejeu.state.lease_watch import LeaseWatch, lease_of
from rejeu.state.model import Incident, Status, StreamState
from rejeu.state.standby_marker import stands_by
from rejeu.timeline import format_instant

TAKEOVERS: Final = 2
"""For how many leases after its holder's the one that stands by is waited for."""


class HeartbeatProbe:
    """Silence counts only while rows are due, and only once nobody holds the lease any more.

    With `standby`, one that stands by has `takeover` after that to go on by itself before silence counts.
    """

    def __init__(
        self,
        store: StateStore,
        stream: str,
        silence: timedelta,
        grace: timedelta,
        *,
        standby: bool = False,
        takeover: timedelta = timedelta(0),
    ) -> None:
        self._store = store
        self._stream = stream
        self._silence = silence
        self._grace = grace
        self._standby = standby
        self._takeover = takeover
        self.lease = LeaseWatch()

    def check(self, now: datetime) -> Verdict:
        state = read_state(self._store, self._stream)
        return Verdict(Signal.UNKNOWN) if state is None else self.judge(state, now)

    def judge(self, state: StreamState, now: datetime) -> Verdict:
        """What this state means at this instant; it is seen by the clock of whoever wrote it."""
        ahead = self.lease.ahead(state, now)
        verdict = self._judge(state, now - ahead)
        return verdict if verdict.look_again is None else replace(verdict, look_again=verdict.look_again + ahead)

    def _judge(self, state: StreamState, now: datetime) -> Verdict:
        seen = state.last_published
        if not state.wanted:
            return Verdict(Signal.STOPPED, seen)
        if state.status is Status.FINISHED:
            return Verdict(Signal.FINISHED, seen)
        if state.lease_until is not None and self.lease.is_held(state, now):
            return self._judge_living(state, state.lease_until, now)
        return self._judge_gone(state, now)

    def _judge_living(self, state: StreamState, lease_until: datetime, now: datetime) -> Verdict:
        seen, lost_at = state.last_published, state.next_due
        overdue = lost_at is not None and lost_at + self._silence <= now
        signal = Signal.FLOWING if seen is not None and seen + self._silence > now else Signal.QUIET
        if state.status is Status.STARTING and self._within_grace(state, now):
            signal = Signal.STARTING
        elif overdue:
            signal = Signal.STALLED
        elif not state.ready:
            # Whether a row is due it knows once it has read its source, which may not be there at all.
            signal = Signal.STARTING
        return Verdict(
            signal,
            seen,
            lost_at if overdue else None,
            state.error or "",
            missing=self._missing(now),
            # Where it dies before it knows a row, that is silence at once.
            look_again=lease_until if lost_at is None or not state.ready else max(lease_until, lost_at + self._silence),
        )

    def _judge_gone(self, state: StreamState, now: datetime) -> Verdict:
        seen = state.last_published
        if state.announced and self._within_grace(state, now):
            return Verdict(Signal.STARTING, seen, look_again=(state.status_at or now) + self._grace)
        if self._may_be_taken_over(state, now):
            return Verdict(Signal.STARTING, seen, detail="one that stands by takes over")
        trouble = _same_trouble(state)
        if trouble is not None and trouble.given_up:
            return Verdict(Signal.GIVEN_UP, seen, trouble.lost_at, trouble.cause)
        if trouble is not None and trouble.retry_at is not None and trouble.retry_at > now:
            until = f"until {format_instant(trouble.retry_at)}"
            return Verdict(Signal.WAITING, seen, trouble.lost_at, until, look_again=trouble.retry_at)
        # Where the replay never came to know its next row, nobody can say that none is due.
        if state.ready and state.next_due is not None and state.next_due + self._silence > now:
            return Verdict(Signal.QUIET, seen, look_again=state.next_due + self._silence)
        gone_at = state.heartbeat or state.status_at or now
        lost_at = state.next_due if state.next_due is not None and state.next_due <= now else gone_at
        unsure, lease = self.lease.unsure_seconds(state), lease_of(state)
        return Verdict(Signal.SILENT, seen, lost_at, _words(state), _reason(state), unsure_seconds=unsure, lease=lease)

    def _within_grace(self, state: StreamState, now: datetime) -> bool:
        return state.status_at is not None and state.status_at + self._grace > now

    def _may_be_taken_over(self, state: StreamState, now: datetime) -> bool:
        """Whether the one that stands by has had no time yet."""
        gone_since = state.lease_until or state.status_at or now
        return self._standby and gone_since + self._takeover > now and stands_by(self._store, self._stream, now)

    def _missing(self, now: datetime) -> frozenset[Missing]:
        alone = self._standby and not stands_by(self._store, self._stream, now)
        return frozenset({Missing.STANDBY} if alone else ())


def _same_trouble(state: StreamState) -> Incident | None:
    """The last incident, where the relaunch that was to end it has left the stream where it was."""
    last = state.incidents[-1] if state.incidents else None
    return last if last is not None and (last.cursor, last.since) == (state.cursor, state.since) else None


def _reason(state: StreamState) -> Reason:
    if state.announced:
        return Reason.NEVER_CAME
    return {Status.FAILED: Reason.FAILED, Status.STOPPED: Reason.ENDED}.get(state.status, Reason.DIED)


def _words(state: StreamState) -> str:
    if state.error:
        return state.error
    heartbeat = format_instant(state.heartbeat) if state.heartbeat else "never"
    return f"epoch {state.epoch} was last heard of at {heartbeat}, and then no more"


def heartbeat_of(watched: Watched) -> HeartbeatProbe:
    """The probe of this stream."""
    return HeartbeatProbe(
        watched.store,
        watched.stream,
        watched.silence,
        watched.grace,
        standby=watched.standby,
        takeover=TAKEOVERS * watched.lease,
    )


PROBE = ProbeKind(heartbeat_of, knows_due=True)
