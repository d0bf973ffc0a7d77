"""The keeper: a thread that renews the lease, saves what was reached, and hears what others wish of this replay."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rejeu.errors import RejeuError, StateError
from rejeu.state.lease import Lease
from rejeu.state.model import Status, StreamState

log = logging.getLogger(__name__)


class Keeper:
    """Makes a checkpoint every so many seconds, and has the document heard; `error` says why it does not any more.

    A store that cannot be written is tried again for `patience` seconds. Meanwhile the lease decides: while it
    holds, rows may flow; once it ran out, nothing is sent.
    """

    def __init__(
        self,
        lease: Lease,
        reached: Callable[[], dict[str, Any]],
        hear: Callable[[StreamState], None],
        *,
        every: float,
        patience: float,
    ) -> None:
        self.error: RejeuError | None = None
        self._lease, self._reached, self._hear = lease, reached, hear
        self._every, self._patience = every, patience
        self._failing_since: float | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            due = time.monotonic() + self._every
            while not self._done.wait(due - time.monotonic()):
                # What a slow store cost is not made up for.
                due = max(due, time.monotonic()) + self._every
                self._checkpoint()
        except RejeuError as error:
            self.error = error
        except Exception as error:  # without its keeper a replay would wait for ever to be allowed to publish
            log.exception("checkpoints failed")
            self.error = StateError(f"checkpoints failed: {type(error).__name__}: {error}: see the log above")

    def _checkpoint(self) -> None:
        try:
            state = self._lease.checkpoint(status=Status.RUNNING, **self._reached())
        except StateError as error:
            now = time.monotonic()
            if self._failing_since is None:
                self._failing_since = now
                log.warning("%s; trying again for %g s", error, self._patience)
            if now - self._failing_since > self._patience:
                raise
            return
        self._failing_since = None
        self._hear(state)
