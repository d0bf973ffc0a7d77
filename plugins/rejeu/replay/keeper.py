"""The keeper: a thread that renews the lease, saves what was reached, and passes on what others ask of this replay."""

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
    """Makes a checkpoint every so many seconds and hands the document to `on_state`; `error` says why it stopped.

    When the store cannot be written, it tries again for `patience` seconds. Rows are sent meanwhile as long as the
    lease lasts.
    """

    def __init__(
        self,
        lease: Lease,
        reached: Callable[[], dict[str, Any]],
        on_state: Callable[[StreamState], None],
        *,
        every: float,
        patience: float,
    ) -> None:
        self.error: RejeuError | None = None
        self._lease, self._reached, self._on_state = lease, reached, on_state
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
                # After a slow write the next checkpoint is not made any sooner.
                due = max(due, time.monotonic()) + self._every
                self._checkpoint()
        except RejeuError as error:
            self.error = error
        except Exception as error:  # a replay without a keeper would wait for ever for its lease
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
        self._on_state(state)
