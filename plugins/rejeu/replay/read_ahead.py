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
from rejeu.timeline import Position, format_instant, from_us

log = logging.getLogger(__name__)

CHUNKS_AHEAD: Final = 4
POLL_SECONDS: Final = 0.2
"""How long either side waits before it checks whether the other is still there."""
FAREWELL_SECONDS: Final = 1.0


class End:
    """What arrives after the last chunk."""


Arrival = Chunk | RejeuError | End
Read = Callable[[Position | None], Iterator[Chunk]]


class ReadAhead:
    """Chunks as `read` gives them from `start` on; an error that it raises arrives after the chunks before it."""

    def __init__(self, read: Read, start: Position | None) -> None:
        self._read, self._position = read, start
        self._is_reached = True
        self._head: Arrival | None = None
        self._reading = _Reading(read, start)

    def __enter__(self) -> Self:
        self._reading.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop reading, without waiting for a read that takes long."""
        self._reading.closed = True
        self._reading.thread.join(FAREWELL_SECONDS)

    @property
    def failed(self) -> bool:
        """Whether `skip` found an error instead of rows."""
        return isinstance(self._head, RejeuError)

    def skip(self, position: Position) -> None:
        """Drop the rows before this position, which is not before the last one, so that those after it are read.

        Where other rows stand before it than did for whoever reached it, the source is read anew from there.
        """
        if self._position is None or not position.has_rows_of(self._position):
            self._position, self._is_reached = position, False
        while self._head is not None or not self._reading.ready.empty():
            head = self._head = self._head or self._reading.ready.get()
            if isinstance(head, RejeuError):
                return
            self._head = self._beyond(head)
            if self._head is not None:
                return

    def chunks(self, goes_on: Callable[[], bool]) -> Iterator[Chunk]:
        """The chunks, to the end of the source, or as long as `goes_on` is true. Raises what reading raised."""
        while goes_on():
            try:
                arrived = self._head or self._reading.ready.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            self._head = None
            if isinstance(arrived, RejeuError):
                raise arrived
            beyond = self._beyond(arrived)
            if isinstance(beyond, End):
                return
            if beyond is not None:
                yield beyond

    def _beyond(self, arrived: Chunk | End) -> Chunk | End | None:
        """What of it is after the position; None where nothing is, or where the source is read anew."""
        position = self._position
        if self._is_reached or position is None:
            return arrived
        if isinstance(arrived, End) and not position.digest:
            return arrived
        if isinstance(arrived, Chunk) and arrived.position_after(len(arrived)) < position:
            return None
        self._is_reached = True
        if isinstance(arrived, End) or not arrived.agrees(position):
            self._read_anew(position)
            return None
        at = arrived.index(position)
        return arrived.part(at, len(arrived)) if at < len(arrived) else None

    def _read_anew(self, position: Position) -> None:
        """Read again from there: what was read is not what whoever reached the position had read."""
        log.info("the source has changed at %s: it is read anew", format_instant(from_us(position.event_us)))
        self._reading.closed = True
        self._reading = _Reading(self._read, position)
        self._reading.thread.start()


class _Reading:
    """One pass through the source, in a thread that waits while enough is `ready`, until it is `closed`."""

    def __init__(self, read: Read, start: Position | None) -> None:
        self.ready: queue.Queue[Arrival] = queue.Queue(maxsize=CHUNKS_AHEAD)
        self.closed = False
        self.thread = threading.Thread(target=self._run, args=(read, start), name="reader", daemon=True)

    def _run(self, read: Read, start: Position | None) -> None:
        try:
            for chunk in read(start):
                if not self._offer(chunk):
                    return
            self._offer(End())
        except RejeuError as error:
            self._offer(error)
        except Exception as error:  # any error of a driver must end the replay, not only this thread
            log.exception("reading failed")
            self._offer(RejeuError(f"reading failed: {type(error).__name__}: {error}: see the log above"))

    def _offer(self, item: Arrival) -> bool:
        while not self.closed:
            try:
                self.ready.put(item, timeout=POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False
