"""The lease of a stream: who may publish, under which epoch, and the checkpoints that renew it.

Every write is a compare-and-set on the stream's whole document, so two holders can never both believe a renewal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from rejeu.errors import LeaseHeldError, LeaseLostError, StateConflictError, StateError, explain
from rejeu.ports import StateStore
from rejeu.state.model import Status, StreamState
from rejeu.timeline import format_instant

MAX_CONFLICTS = 50
"""Consecutive lost races after which something other than bad luck is at work."""


def read_state(store: StateStore, stream: str) -> StreamState | None:
    """What the stream remembers, or None where it never ran."""
    found = store.load(stream)
    return None if found is None else _understand(stream, found.document)


def update_state(store: StateStore, stream: str, change: Callable[[StreamState], StreamState]) -> StreamState:
    """Apply `change` to the newest document, again and again until no other writer comes between.

    A write whose answer was lost looks as another writer's, so `change` must bear to be made twice.
    """
    for _ in range(MAX_CONFLICTS):
        found = store.load(stream)
        state = StreamState(stream=stream) if found is None else _understand(stream, found.document)
        changed = change(state)
        try:
            store.save(stream, changed.model_dump(mode="json"), found.version if found else None)
        except StateConflictError:
            continue
        return changed
    raise StateConflictError(f"{stream}: {MAX_CONFLICTS} writers came first: is something writing in a loop?")


def _understand(stream: str, document: dict[str, Any]) -> StreamState:
    try:
        return StreamState.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise StateError(
            f"state of {stream}: {field}: {explain(first)}: another version of Rejeu wrote it; run that one, or remove "
            "the stream's document"
        ) from None


class Lease:
    """Held from `acquire` to `release`; `checkpoint` renews it and saves what the replay has reached.

    One thread writes, or what was reached could be saved in the wrong order; any thread may ask `is_held`.
    """

    def __init__(self, store: StateStore, state: StreamState, seconds: float, renewed: float) -> None:
        self._store = store
        self._seconds = seconds
        self._expires = renewed + seconds
        self.state = state

    @classmethod
    def acquire(cls, store: StateStore, stream: str, holder: str, seconds: float, **fields: Any) -> Lease:
        """Become the stream's only publisher, under the next epoch; `fields` are saved with it.

        `holder` names the one who asks and nobody else, ever: a lease in that name is one whose writing succeeded
        and whose answer was lost, so it is simply taken again. Raises LeaseHeldError while somebody else holds the
        lease and has not let it run out.
        """
        asked = time.monotonic()

        def take(state: StreamState) -> StreamState:
            now = datetime.now(UTC)
            mine = state.holder == holder
            if not mine and state.holder is not None and state.lease_until is not None and state.lease_until > now:
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
        """Whether the lease certainly holds: by this process's own clock, which runs on while it is paused."""
        return time.monotonic() < self._expires

    def checkpoint(self, **fields: Any) -> StreamState:
        """Renew the lease and save `fields`; returns the document, which others may have changed.

        Raises LeaseLostError where another replay took over, or this one gave the lease up. A lease that ran out
        unnoticed is simply renewed.
        """
        asked = time.monotonic()
        now = datetime.now(UTC)
        self._write({"heartbeat": now, "lease_until": now + timedelta(seconds=self._seconds), **fields})
        self._expires = asked + self._seconds
        return self.state

    def release(self, status: Status, error: str | None = None, **fields: Any) -> None:
        """Give the stream up at once, saying how it ended; a lease already lost is left to its new holder."""
        self._expires = 0.0  # first: a writing that fails may still have been made
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
