"""Taking turns: one at a time launches or stops a stream's replays, whichever machine or DAG run it works in.

The lease keeps two replays from publishing; this keeps a watchdog from ending what a person started meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from rejeu.errors import LaunchError, StateConflictError
from rejeu.ports import StateStore
from rejeu.state.documents import Beside
from rejeu.timeline import format_instant, parse_instant

TURN: Final = timedelta(seconds=30)
"""How long one whose worker died keeps its turn; who takes longer loses no row, for there is the lease."""
LOOK_SECONDS: Final = 0.2


@contextmanager
def taking_turns(
    store: StateStore, stream: str, who: str, sleep: Callable[[float], None] = time.sleep
) -> Iterator[None]:
    """Wait for one's turn, and have it while this lasts. `who` names a task: its next try goes on with its turn.

    Raises LaunchError where somebody else does not come to an end, StateError where the store cannot be used.
    """
    deadline = time.monotonic() + 2 * TURN.total_seconds()
    while (other := _take(store, stream, who)) is not None:
        if time.monotonic() > deadline:
            raise LaunchError(f"{stream}: {other} has been starting or stopping its replays for too long: see its log")
        sleep(LOOK_SECONDS)
    try:
        yield
    finally:
        _give_back(store, stream, who)


def _take(store: StateStore, stream: str, who: str) -> str | None:
    """None where the turn is ours now, else who has it."""
    found = store.load(Beside.TURN.of(stream))
    now = datetime.now(UTC)
    if found is not None and found.document["who"] not in (who, None) and parse_instant(found.document["until"]) > now:
        return str(found.document["who"])
    try:
        document = {"who": who, "until": format_instant(now + TURN)}
        store.save(Beside.TURN.of(stream), document, found.version if found else None)
    except StateConflictError:
        return "somebody else"
    return None


def _give_back(store: StateStore, stream: str, who: str) -> None:
    found = store.load(Beside.TURN.of(stream))
    if found is not None and found.document["who"] == who:
        with suppress(StateConflictError):
            store.save(Beside.TURN.of(stream), {"who": None, "until": found.document["until"]}, found.version)
