"""The lease of a stream: who may publish, under which epoch, and the checkpoints that renew it.

Every write is a compare-and-set on the stream's whole document, so two holders can never both renew it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from rejeu.clocks import elapsed
from rejeu.errors import LeaseHeldError, LeaseLostError, StateConflictError, StateError
from rejeu.ports import StateStore
from rejeu.state.documents import read_document, save_document
from rejeu.state.lease_watch import LeaseWatch
from rejeu.state.model import Status, StreamState
from rejeu.timeline import format_instant

MAX_CONFLICTS = 50
"""After so many lost races in a row it is a fault, not bad luck."""


def read_state(store: StateStore, stream: str) -> StreamState | None:
    """What the stream remembers, or None where it never ran."""
    state, _ = _read(store, stream)
    return state


def update_state(store: StateStore, stream: str, change: Callable[[StreamState], StreamState]) -> StreamState:
    """Apply `change` to the newest document, and try again when another writer was first.

    A write whose answer was lost looks like another writer's, so applying `change` twice must do no harm.
    """
    for _ in range(MAX_CONFLICTS):
        state, version = _read(store, stream)
        changed = change(state or StreamState(stream=stream))
        try:
            save_document(store, stream, changed, version)
        except StateConflictError:
            continue
        return changed
    raise StateConflictError(f"{stream}: {MAX_CONFLICTS} writers came first: check what writes in a loop")


def _read(store: StateStore, stream: str) -> tuple[StreamState | None, int | None]:
    state, version = read_document(store, stream, StreamState)
    if state is not None and state.stream != stream:
        raise StateError(
            f"state of {stream}: stream is {state.stream!r}: it is another stream's document; restore this one's own"
        )
    return state, version


class Lease:
    """Held from `acquire` to `release`; `checkpoint` renews it and saves what the replay has reached.

    Only one thread may write, so that the cursor is saved in order; any thread may ask `is_held`.
    """

    def __init__(self, store: StateStore, state: StreamState, seconds: float, renewed: float) -> None:
        self._store = store
        self._seconds = seconds
        self._expires = renewed + seconds
        self.state = state

    @classmethod
    def acquire(
        cls,
        store: StateStore,
        stream: str,
        holder: str,
        seconds: float,
        *,
        watched: LeaseWatch | None = None,
        **fields: Any,
    ) -> Lease:
        """Become the stream's only publisher, under the next epoch; `fields` are saved with it.

        `holder` must be unique for ever: a lease under that name was written by this caller, whose answer was lost,
        so it is taken again. Raises LeaseHeldError while another holder's lease has not run out: by the time of day,
        or, where the caller has `watched` it, by how long it stands still: clocks of two machines may differ.
        """
        asked = elapsed()
        is_held = StreamState.is_leased if watched is None else watched.may_be_held

        def take(state: StreamState) -> StreamState:
            now = datetime.now(UTC)
            mine = state.holder == holder
            if not mine and state.holder is not None and state.lease_until is not None and is_held(state, now):
                raise LeaseHeldError(
                    f"{stream}: {state.holder} publishes under epoch {state.epoch} until "
                    f"{format_instant(state.lease_until)}: stop it first, or wait until it is gone"
                )
            return state.model_copy(
                update={
                    "epoch": state.epoch if mine else state.epoch + 1,
                    "holder": holder,
                    "lease_until": now + timedelta(seconds=seconds),
                    "heartbeat": now,
                    "error": None,
                    "published": 0,
                    "owed": 0,
                    "resumed_at": None,
                    "incidents": state.ended_incidents,
                    "status": Status.STARTING,
                    "status_at": now,
                    "announced": (),
                    **fields,
                }
            )

        return cls(store, update_state(store, stream, take), seconds, asked)

    @property
    def epoch(self) -> int:
        return self.state.epoch

    def is_held(self) -> bool:
        """Whether the lease surely lasts, by this machine's own clock, which runs on while process or machine sleep."""
        return elapsed() < self._expires

    def checkpoint(self, **fields: Any) -> StreamState:
        """Renew the lease and save `fields`; returns the document, which others may have changed.

        Raises LeaseLostError where another replay took over, or this one gave the lease up. A lease that ran out and
        that nobody took is renewed.
        """
        asked = elapsed()
        now = datetime.now(UTC)
        self._write({"heartbeat": now, "lease_until": now + timedelta(seconds=self._seconds), **fields})
        self._expires = asked + self._seconds
        return self.state

    def release(self, status: Status, error: str | None = None, **fields: Any) -> None:
        """Give the stream up at once and say how it ended; a lease that was lost is left to its new holder."""
        self._expires = 0.0  # first, because a write that fails may have been made
        now = datetime.now(UTC)
        ending = {"holder": None, "lease_until": None, "status": status, "status_at": now, "error": error}
        with suppress(LeaseLostError):
            self._write({**fields, **ending})

    def _write(self, fields: dict[str, Any]) -> None:
        epoch = self.state.epoch

        def mine(state: StreamState) -> StreamState:
            if state.epoch != epoch or state.holder is None:
                raise LeaseLostError(
                    f"{state.stream}: epoch {state.epoch} ({state.holder or 'fenced off'}) took over from epoch "
                    f"{epoch}: this replay stops before its next message"
                )
            return state.model_copy(update=fields)

        self.state = update_state(self._store, self.state.stream, mine)
