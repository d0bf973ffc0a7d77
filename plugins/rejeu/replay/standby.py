"""A standby: reads along with the holder of a stream's lease, and goes on at once when the holder is gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Final, Self

from rejeu.clocks import elapsed
from rejeu.errors import LeaseHeldError, StateError
from rejeu.jobs.request import ReplayRequest
from rejeu.ports import StateStore
from rejeu.replay.read_ahead import ReadAhead
from rejeu.replay.reading import read_chunks
from rejeu.state import Rhythm
from rejeu.state.lease import Lease, read_state
from rejeu.state.lease_watch import LeaseWatch
from rejeu.state.model import Status, StreamState
from rejeu.state.standby_marker import RENEWALS_MISSED, mark_standby
from rejeu.timeline import Position

log = logging.getLogger(__name__)

LOOKS_A_CHECKPOINT: Final = 4
GRACE: Final = timedelta(seconds=15)
"""How long the standby leaves the lease to a replay that was announced and has not come."""


class Standby:
    """Waits beside the holder, with the next rows after the holder's cursor in memory.

    It takes over when the holder let its lease run out, failed, or was stopped while the stream is wanted; not before
    there was a holder, and not after the last row.
    """

    def __init__(self, request: ReplayRequest, store: StateStore, rhythm: Rhythm, name: str) -> None:
        self._request, self._store, self._name = request, store, name
        self._look_seconds = rhythm.checkpoint_seconds / LOOKS_A_CHECKPOINT
        self._every = timedelta(seconds=rhythm.lease_seconds)
        self._shown_until: datetime | None = None
        self._shown_at = 0.0
        self._read_from: Position | None = None
        self._reading = ExitStack()
        self._ahead: ReadAhead | None = None
        self._lease = LeaseWatch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.close()

    def wait(
        self, goes_on: Callable[[], bool], take_lease: Callable[[LeaseWatch], Lease]
    ) -> tuple[Lease, ReadAhead] | None:
        """The lease and the rows, once this standby has taken over; None where it is no longer needed."""
        log.info("%s: standing by", self._request.state_name)
        failing_since: float | None = None
        while goes_on():
            try:
                state = read_state(self._store, self._request.state_name)
                if state is not None and is_over(state):
                    return None
                if state is not None and self._is_gone(state, datetime.now(UTC)):
                    with suppress(LeaseHeldError):
                        return self._taken(take_lease(self._lease))
                self._show(datetime.now(UTC))
                if state is not None and state.epoch > 0:
                    self._follow(state.cursor)
                failing_since = None
            except StateError as error:
                if failing_since is None:
                    failing_since = time.monotonic()
                    patience = self._request.patience_seconds
                    log.warning("%s: standing by: %s; trying again for %g s", self._request.state_name, error, patience)
                if time.monotonic() - failing_since > self._request.patience_seconds:
                    raise
            time.sleep(self._look_seconds)
        return None

    def _is_gone(self, state: StreamState, now: datetime) -> bool:
        """Whether the lease is free, though this machine's clock may differ from the holder's."""
        return not self._lease.may_be_held(state, now) and is_free(state, now - self._lease.ahead(state, now))

    def _show(self, now: datetime) -> None:
        """Renew the standby marker when it is due, and where the wall clock was stepped, by which others read it."""
        until = now + RENEWALS_MISSED * self._every
        is_due = elapsed() - self._shown_at >= self._every.total_seconds()
        if is_due or self._shown_until is None or abs(until - self._shown_until) >= self._every:
            mark_standby(self._store, self._request.state_name, self._name, until)
            self._shown_until, self._shown_at = until, elapsed()

    def _taken(self, lease: Lease) -> tuple[Lease, ReadAhead]:
        log.warning("%s: takes over under epoch %d", self._request.state_name, lease.epoch)
        with suppress(StateError):  # the lease is held: publishing comes first
            mark_standby(self._store, self._request.state_name, self._name, datetime.now(UTC))
        ahead = self._follow(lease.state.cursor)
        if ahead.failed:  # that was some time ago: the source may work again
            self._ahead = None
            ahead = self._follow(lease.state.cursor)
        return lease, ahead

    def _follow(self, cursor: Position | None) -> ReadAhead:
        """The rows from the holder's cursor on; if the cursor went back, they are read again."""
        if self._ahead is None or _is_before(cursor, self._read_from):
            self._reading.close()
            self._ahead = self._reading.enter_context(ReadAhead(partial(read_chunks, self._request), cursor))
            self._read_from = cursor
        if cursor is not None:
            self._ahead.skip(cursor)
            self._read_from = cursor
        return self._ahead


def is_over(state: StreamState) -> bool:
    """Whether the stream needs no publisher any more: every row is out, or the stream is not wanted."""
    return not state.wanted or (state.holder is None and state.status is Status.FINISHED)


def is_free(state: StreamState, now: datetime) -> bool:
    """Whether to take the lease: there was a holder, it is gone, and no other one was announced within GRACE."""
    coming = state.holder is None and state.status is Status.STARTING
    announced = coming and state.status_at is not None and state.status_at + GRACE > now
    return state.epoch > 0 and not state.is_leased(now) and not announced


def _is_before(cursor: Position | None, other: Position | None) -> bool:
    return other is not None and (cursor is None or cursor < other)
