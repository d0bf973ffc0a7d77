"""A timer that runs functions later, all of them in one thread: thousands may wait."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable
from itertools import count

log = logging.getLogger(__name__)


class Timer:
    """Runs short functions when their time has come; the thread ends with the process, or with `close`."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._turn = count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def call(self, seconds: float, function: Callable[[], None]) -> None:
        """Run it after so many seconds; never, once this is closed."""
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="later", daemon=True)
                self._thread.start()
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._turn), function))
            self._changed.notify()

    def close(self) -> None:
        """Drop all functions that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while (function := self._take()) is not None:
            try:
                function()
            except Exception:  # the others must not wait for ever
                log.exception("%s failed", function)

    def _take(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._closed:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait)
        return None
