"""The launch lock: one task at a time starts or stops a stream's replays, whatever its machine and DAG run.

The lease keeps two replays from publishing; this keeps a watchdog from ending what a person has just started.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rejeu.errors import LaunchError, StateConflictError, StateError
from rejeu.ports import StateStore
from rejeu.state.documents import ClockTime, Document, SideDocument, read_document, save_document

log = logging.getLogger(__name__)

LOCK_TIME: Final = timedelta(seconds=30)
"""How long a holder whose worker died keeps the lock; one that lives renews it, however long it takes."""
RENEW_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.2
TRIES: Final = 5
"""How often a renewal is tried at once, where another write was first."""


class LockDocument(Document):
    """Who holds the lock, and until when nothing need be heard of it."""

    who: str | None
    until: ClockTime


class LaunchLock:
    """The lock of a holder, which a thread renews for as long as it lives."""

    def __init__(self, store: StateStore, stream: str, who: str) -> None:
        self._store, self._stream, self._who = store, stream, who
        self._name = SideDocument.LAUNCH_LOCK.of(stream)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"launch lock of {stream}", daemon=True)

    def confirm(self) -> None:
        """Renew it, before something is started on the strength of it.

        Raises LaunchError where somebody else has had it: this process stood still for longer than a lock lasts.
        """
        for _ in range(TRIES):
            found, version = read_document(self._store, self._name, LockDocument)
            if found is None or found.who != self._who:
                break
            try:
                save_document(self._store, self._name, found.model_copy(update=_mine(self._who)), version)
            except StateConflictError:  # with our own thread, or with one that took it over
                continue
            return
        raise LaunchError(
            f"{self._stream}: {self._who} no longer holds the launch lock: somebody else may have started or stopped "
            "its replays meanwhile, so nothing more is started; run this task again"
        )

    def start(self) -> None:
        """Begin to renew it."""
        self._thread.start()

    def release(self) -> None:
        """Renew it no more, and leave it to others; another one's is left alone."""
        self._done.set()
        self._thread.join()
        found, version = read_document(self._store, self._name, LockDocument)
        if found is not None and found.who == self._who:
            with suppress(StateConflictError):
                save_document(self._store, self._name, found.model_copy(update={"who": None}), version)

    def _keep(self) -> None:
        while not self._done.wait(RENEW_SECONDS):
            try:
                self.confirm()
            except LaunchError as error:
                log.warning("%s", error)
                return
            except StateError as error:
                log.warning("%s: the launch lock cannot be renewed now: %s", self._stream, error)


@contextmanager
def hold_launch_lock(
    store: StateStore, stream: str, who: str, sleep: Callable[[float], None] = time.sleep
) -> Iterator[LaunchLock]:
    """Wait for the lock, and hold it while the block runs. `who` names a task: its next try takes over its own lock.

    Raises LaunchError where another holder takes too long, StateError where the store cannot be used.
    """
    deadline = time.monotonic() + 2 * LOCK_TIME.total_seconds()
    while (other := _take(store, stream, who)) is not None:
        if time.monotonic() > deadline:
            raise LaunchError(f"{stream}: {other} has been starting or stopping its replays for too long: see its log")
        sleep(POLL_SECONDS)
    lock = LaunchLock(store, stream, who)
    lock.start()
    try:
        yield lock
    finally:
        lock.release()


def _take(store: StateStore, stream: str, who: str) -> str | None:
    """None where the lock is ours for another LOCK_TIME, else its holder."""
    name = SideDocument.LAUNCH_LOCK.of(stream)
    found, version = read_document(store, name, LockDocument)
    if found is not None and found.who not in (who, None) and found.until > datetime.now(UTC):
        return found.who
    mine = _mine(who)
    try:
        save_document(store, name, LockDocument(**mine) if found is None else found.model_copy(update=mine), version)
    except StateConflictError:
        return "somebody else"
    return None


def _mine(who: str) -> dict[str, Any]:
    return {"who": who, "until": datetime.now(UTC) + LOCK_TIME}
