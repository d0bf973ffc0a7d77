"""Writers of a stream's document: what somebody wants of the stream, and what is about to start."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from rejeu.errors import RequestError
from rejeu.jobs.request import ReplayRequest
from rejeu.ports import EndedBy, StateStore
from rejeu.spec.model import StreamSpec
from rejeu.spec.names import SHARD_SUFFIX
from rejeu.state.documents import stream_names
from rejeu.state.lease import update_state
from rejeu.state.model import End, Status, StreamState, forgive
from rejeu.timeline import MICROSECOND, Position, to_us


def announce(store: StateStore, request: ReplayRequest) -> StreamState:
    """Say that this replay is about to start, and that the stream is wanted from now on.

    Until it runs, no watchdog takes that for silence. An incident that was given up is tried again.
    """
    now = datetime.now(UTC)

    def starting(state: StreamState) -> StreamState:
        incidents = (*state.incidents[:-1], *(forgive(each) for each in state.incidents[-1:]))
        return state.model_copy(
            update={
                "wanted": True,
                "status": Status.STARTING,
                "status_at": now,
                "error": None,
                "announced": tuple(request.to_argv()),
                "incidents": incidents,
            }
        )

    return update_state(store, request.state_name, starting)


def rewind(store: StateStore, spec: StreamSpec) -> None:
    """Put the cursor of a stream that aggregates back to the start of its current window.

    A streaming job that was drained has written that window in part; the next one must count it as a whole.
    """
    window = spec.window
    if window is None or window.fixed is None:
        return
    length = window.fixed // MICROSECOND

    def back(state: StreamState) -> StreamState:
        if state.cursor is None:
            return state
        start = Position(state.cursor.event_us // length * length)
        return state.model_copy(update={"cursor": max(start, state.since or start)})

    update_state(store, spec.stream, back)


def mark_wanted(store: StateStore, stream: str) -> None:
    """Say that the stream is wanted from now on, whether we publish it or others do."""
    update_state(store, stream, lambda state: state.model_copy(update={"wanted": True}))


def mark_unwanted(store: StateStore, stream: str) -> StreamState:
    """Say that the stream is not wanted: its replay drains and ends by itself, and silence is no fault.

    A silence that lasts ends with this.
    """
    end = End(at=datetime.now(UTC), by=EndedBy.STOP)

    def stop(state: StreamState) -> StreamState:
        incidents = tuple(
            each if each.end or each.recorded else each.model_copy(update={"end": end})
            for each in state.ended_incidents
        )
        return state.model_copy(update={"wanted": False, "incidents": incidents})

    return update_state(store, stream, stop)


def set_pace(store: StateStore, stream: str, **changes: Any) -> None:
    """Change the `speed` of the stream's replay and all its shards, or whether it is `paused`.

    It does so at its next checkpoint and keeps its position. Raises RequestError where the store has no such stream.
    """
    names = stream_names(store)
    own = [name for name in names if re.fullmatch(re.escape(stream) + SHARD_SUFFIX, name)]
    if not own:
        known = f"it knows {', '.join(names)}" if names else "it is empty"
        raise RequestError(f"the state store has no stream {stream!r}: {known}; name one, and its store with --state")

    def change(state: StreamState) -> StreamState:
        if state.paused and state.timeline is not None:
            # A paused stream's time stands still, even while nobody holds it.
            timeline = replace(state.timeline, wall_us=to_us(datetime.now(UTC)))
            return state.model_copy(update={"timeline": timeline, **changes})
        return state.model_copy(update=changes)

    for name in own:
        update_state(store, name, change)
