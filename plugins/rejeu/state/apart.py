"""What a stream may not have in common with another one of the store, whose spec may be gone.

What two specs may not share, `rejeu.spec.sharing` says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, NamedTuple

from rejeu.errors import RequestError, StateError
from rejeu.jobs.request import ReplayRequest
from rejeu.ports import StateStore
from rejeu.spec.model import StreamSpec
from rejeu.spec.sharing import Clash, clashes
from rejeu.state.documents import owner_of
from rejeu.state.lease import read_state
from rejeu.state.live_record import read_record, recorded_streams, spec_of
from rejeu.state.model import StreamState
from rejeu.state.stream import mark_unwanted
from rejeu.target import Target

log = logging.getLogger(__name__)

READERS: Final = 16
"""How many documents are read side by side: a store in the cloud takes its time for each."""
LOOKS: Final = 10
PAUSE_SECONDS: Final = 1.0
"""How often, and how long after the look before, one stream looks whether the others have withdrawn."""


def check_apart(store: StateStore, spec: StreamSpec, target: Target) -> None:
    """Raises RequestError where another stream of the store has what this one must have for itself.

    That is whatever one that is wanted has, the topic that a replay by hand publishes to just now, and a table that
    holds another one's rows: a renamed stream gives each row another id, and a view would show each twice.
    """
    for refusal in _refusals(store, spec, target):
        raise RequestError(refusal.why)


def go_live_apart(
    store: StateStore,
    spec: StreamSpec,
    target: Target,
    go_live: Callable[[], object],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Let `go_live` say that the stream is wanted, and check once more that it has what it needs for itself.

    Of streams that pass the first check at the same moment, each sees the others now. One stays: those with the later
    names withdraw at once, and the first one awaits that. Raises RequestError where this one withdrew.
    """
    go_live()
    for last in (*[False] * LOOKS, True):
        refusals = list(_refusals(store, spec, target))
        if not refusals:
            return
        if last or any(refusal.stream is None or refusal.stream < spec.stream for refusal in refusals):
            mark_unwanted(store, spec.stream)
            raise RequestError(f"{refusals[0].why}; {spec.stream}.stop ends its streaming job")
        sleep(PAUSE_SECONDS)


class _Refusal(NamedTuple):
    """Why the stream may not go live, and which other one is in its way; None for a replay by hand."""

    why: str
    stream: str | None


def _refusals(store: StateStore, spec: StreamSpec, target: Target) -> Iterator[_Refusal]:
    names = store.names()
    recorded = [name for name in recorded_streams(names) if name != spec.stream]
    with ThreadPoolExecutor(READERS) as pool:
        others = [each for each in pool.map(lambda name: _spec_of(store, name), recorded) if each is not None]
        for clash, other in clashes([spec, *others]).get(spec.stream, []):
            if why := _why_refused(clash, _state_of(store, other)):
                yield _Refusal(f"{spec.stream}: {clash.field}: {clash.reason}, {why}. {_remedy(other)}", other)
        if spec.replay is None:
            return
        by_hand = [name for name in names if "." not in name and owner_of(name) not in {spec.stream, *recorded}]
        topic, now = target.topic(spec.live.topic), datetime.now(UTC)
        for state in pool.map(lambda name: _state_of(store, name), by_hand):
            if state is not None and _publishes_to(state, topic, now):
                yield _Refusal(
                    f"{spec.stream}: a replay that was started by hand, {state.stream}, publishes to {topic} just now: "
                    f"stop it ({state.holder}), or wait for its end",
                    None,
                )


def _why_refused(clash: Clash, state: StreamState | None) -> str | None:
    if state is None:
        return None
    if state.wanted:
        return "which is wanted: it was renamed, or another folder of specs has it"
    if clash.is_table and state.cursor is not None:
        return "whose rows are there: under another stream's name each has another id, and would be there twice"
    return None


def _remedy(other: str) -> str:
    return (
        f"Give this stream its own, or the name {other} again; where nobody needs {other} any more, "
        f"`rejeu orphans {other} --remove` stops and forgets it, and leaves its tables"
    )


def _publishes_to(state: StreamState, topic: str, now: datetime) -> bool:
    if not state.is_leased(now):
        return False
    with suppress(RequestError):
        return ReplayRequest.from_stored(state.request).topic_path == topic
    return False


def _spec_of(store: StateStore, stream: str) -> StreamSpec | None:
    """One that cannot be read is told of, and keeps nobody from going live."""
    try:
        record = read_record(store, stream)
        return None if record is None else spec_of(record)
    except StateError as error:
        log.warning("%s: whether it shares something is not known: %s", stream, error)
        return None


def _state_of(store: StateStore, stream: str) -> StreamState | None:
    try:
        return read_state(store, stream)
    except StateError as error:
        log.warning("%s: whether it is wanted is not known: %s", stream, error)
        return None
