"""The launch lock: one task at a time starts or stops a stream's replays, whatever its machine and DAG run.

The lease keeps two replays from publishing; this keeps a watchdog from ending what a person has just started.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from rejeu.errors import LaunchError, StateConflictError
from rejeu.ports import StateStore
from rejeu.state.documents import SideDocument
from rejeu.timeline import format_instant, parse_instant

LOCK_TIME: Final = timedelta(seconds=30)
"""How long a holder whose worker died keeps the lock. A task that takes longer loses no row, thanks to the lease."""
POLL_SECONDS: Final = 0.2


@contextmanager
def hold_launch_lock(
    store: StateStore, stream: str, who: str, sleep: Callable[[float], None] = time.sleep
) -> Iterator[None]:
    """Wait for the lock, and hold it while the block runs. `who` names a task: its next try takes over its own lock.

    Raises LaunchError where another holder takes too long, StateError where the store cannot be used.
    """
    deadline = time.monotonic() + 2 * LOCK_TIME.total_seconds()
    while (other := _take(store, stream, who)) is not None:
        if time.monotonic() > deadline:
            raise LaunchError(f"{stream}: {other} has been starting or stopping its replays for too long: see its log")
        sleep(POLL_SECONDS)
    try:
        yield
    finally:
        _release(store, stream, who)


def _take(store: StateStore, stream: str, who: str) -> str | None:
    """None where the lock is ours now, else its holder."""
    found = store.load(SideDocument.LAUNCH_LOCK.of(stream))
    now = datetime.now(UTC)
    if found is not None and found.document["who"] not in (who, None) and parse_instant(found.document["until"]) > now:
        return str(found.document["who"])
    try:
        document = {"who": who, "until": format_instant(now + LOCK_TIME)}
        store.save(SideDocument.LAUNCH_LOCK.of(stream), document, found.version if found else None)
    except StateConflictError:
        return "somebody else"
    return None


def _release(store: StateStore, stream: str, who: str) -> None:
    found = store.load(SideDocument.LAUNCH_LOCK.of(stream))
    if found is not None and found.document["who"] == who:
        with suppress(StateConflictError):
            store.save(
                SideDocument.LAUNCH_LOCK.of(stream), {"who": None, "until": found.document["until"]}, found.version
            )
