"""Reading ahead: a thread that keeps a few chunks ready before they are due; `rejeu.replay.reading` reads them."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

from rejeu.errors import RejeuError
from rejeu.replay.chunk import Chunk
from rejeu.timeline import Position

log = logging.getLogger(__name__)

CHUNKS_AHEAD: Final = 4
POLL_SECONDS: Final = 0.2
"""How long either side waits before it checks whether the other is still there."""
FAREWELL_SECONDS: Final = 1.0


class End:
    """What arrives after the last chunk."""


Arrival = Chunk | RejeuError | End


class ReadAhead:
    """Chunks as `read` gives them; an error that it raises arrives after the chunks before it."""

    def __init__(self, read: Callable[[], Iterator[Chunk]]) -> None:
        self._read = read
        self._ready: queue.Queue[Arrival] = queue.Queue(maxsize=CHUNKS_AHEAD)
        self._head: Arrival | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop reading, without waiting for a read that takes long."""
        self._closed = True
        self._thread.join(FAREWELL_SECONDS)

    @property
    def failed(self) -> bool:
        """Whether `skip` found an error instead of rows."""
        return isinstance(self._head, RejeuError)

    def skip(self, position: Position) -> None:
        """Drop the chunks that end before this position, so that those after it are read."""
        while self._head is not None or not self._ready.empty():
            head = self._head = self._head or self._ready.get()
            if not isinstance(head, Chunk) or head.position_after(len(head)) > position:
                return
            self._head = None

    def chunks(self, goes_on: Callable[[], bool]) -> Iterator[Chunk]:
        """The chunks, to the end of the source, or as long as `goes_on` is true. Raises what reading raised."""
        while goes_on():
            try:
                arrived = self._head or self._ready.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            self._head = None
            if isinstance(arrived, RejeuError):
                raise arrived
            if not isinstance(arrived, Chunk):
                return
            yield arrived

    def _run(self) -> None:
        try:
            for chunk in self._read():
                if not self._offer(chunk):
                    return
            self._offer(End())
        except RejeuError as error:
            self._offer(error)
        except Exception as error:  # any error of a driver must end the replay, not only this thread
            log.exception("reading failed")
            self._offer(RejeuError(f"reading failed: {type(error).__name__}: {error}: see the log above"))

    def _offer(self, item: Arrival) -> bool:
        while not self._closed:
            try:
                self._ready.put(item, timeout=POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False
