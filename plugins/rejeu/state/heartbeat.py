"""The heartbeat probe: what the replay's own state says of the signal. It costs one read and knows what is due."""

from __future__ import annotations

from datetime import datetime, timedelta

from rejeu.ports import Signal, StateStore, Verdict
from rejeu.state.lease import read_state
from rejeu.state.model import Status, StreamState
from rejeu.timeline import format_instant


class HeartbeatProbe:
    """Silence counts only while rows are due, and only once nobody holds the lease any more."""

    def __init__(self, store: StateStore, stream: str, silence: timedelta, grace: timedelta) -> None:
        self._store = store
        self._stream = stream
        self._silence = silence
        self._grace = grace

    def check(self, now: datetime) -> Verdict:
        state = read_state(self._store, self._stream)
        if state is None:
            return Verdict(Signal.UNKNOWN)
        return self._judge(state, now)

    def _judge(self, state: StreamState, now: datetime) -> Verdict:
        seen = state.last_published
        if not state.wanted:
            return Verdict(Signal.STOPPED, seen)
        if state.status is Status.FINISHED:
            return Verdict(Signal.FINISHED, seen)
        alive = state.holder is not None and state.lease_until is not None and state.lease_until > now
        if state.status is Status.STARTING and state.status_at is not None and state.status_at + self._grace > now:
            return Verdict(Signal.STARTING, seen)
        overdue = state.next_due is not None and state.next_due + self._silence <= now
        if alive and overdue:
            return Verdict(Signal.STALLED, seen, state.next_due, state.error or "")
        if alive:
            flowing = seen is not None and seen + self._silence > now
            return Verdict(Signal.FLOWING if flowing else Signal.QUIET, seen)
        # Where the replay never came to know its next row, nobody can say that none is due.
        if overdue or state.next_due is None:
            return Verdict(Signal.SILENT, seen, state.next_due or state.heartbeat or now, _why(state))
        return Verdict(Signal.QUIET, seen)


def _why(state: StreamState) -> str:
    if state.error:
        return state.error
    heartbeat = format_instant(state.heartbeat) if state.heartbeat else "never"
    return f"epoch {state.epoch} was last heard of at {heartbeat}, and then no more"
