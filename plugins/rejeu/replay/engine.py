"""The replay from start to end: take the lease, read ahead, send what is due, save what is acknowledged."""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from rejeu.errors import LeaseLostError, PublishError, RejeuError, StateError
from rejeu.gcp.clients import publisher_channel
from rejeu.message import MAX_MESSAGE_BYTES, MAX_REQUEST_MESSAGES
from rejeu.ports import StateStore
from rejeu.replay.chunks import Chunk, read_chunks
from rejeu.replay.pacer import Clock, Lateness
from rejeu.replay.position import Position
from rejeu.replay.publisher import Batch, Publisher, build_request
from rejeu.replay.report import Progress, Report
from rejeu.request import CURSOR, MAX, ReplayRequest
from rejeu.state import open_store
from rejeu.state.lease import Lease, read_state
from rejeu.state.model import Status, StreamState
from rejeu.timeline import Timeline, format_instant, from_us, to_us

log = logging.getLogger(__name__)

CHUNKS_AHEAD = 4
TICK_SECONDS = 0.003
"""The least time between two requests: rows that fall due within it travel together."""
LONGEST_WAIT_SECONDS = 0.2
DRAIN_SECONDS = 20.0
REQUEST_OVERHEAD_BYTES = 250
"""Attributes and framing of one message, roughly: enough to keep a request under Pub/Sub's limit."""
END: Final = None


class Replay:
    """One run of a request; `stop` may be called from a signal handler, at any time."""

    def __init__(self, request: ReplayRequest, store: StateStore | None = None) -> None:
        self._request = request
        self._store = store or open_store(request.state)
        self._clock = Clock()
        self._lateness = Lateness()
        self._stopping = threading.Event()
        self._chunks: queue.Queue[Chunk | BaseException | None] = queue.Queue(maxsize=CHUNKS_AHEAD)
        self._next_event_us: int | None = None
        self._lease: Lease
        self._publisher: Publisher
        self._timeline: Timeline | None = None
        self._position: Position | None = None
        self._lost: LeaseLostError | None = None
        self._began_us = 0
        self._owed = 0

    def stop(self) -> None:
        """Publish nothing more, wait for what is under way, save the cursor, give the lease up."""
        self._stopping.set()
        self._clock.wake()

    def run(self) -> Report:
        """Publish until the end of the source, or until stopped. Raises RejeuError; the cursor is saved either way."""
        started = time.monotonic()
        resumed = self._request.from_ == CURSOR
        before = read_state(self._store, self._request.stream)
        if resumed and before is not None and not before.wanted:
            log.info("%s: stopped on request, so nothing is resumed", self._request.stream)
            return Report(
                stream=before.stream, status=Status.STOPPED, published=0, seconds=0, messages_per_second=0,
                lateness_ms=None, cursor=_cursor_json(before.cursor), epoch=before.epoch,
            )  # fmt: skip
        with publisher_channel() as channel:
            self._publisher = Publisher(
                channel,
                self._request.topic_path,
                patience_seconds=self._request.patience_seconds,
                may_publish=lambda: self._lease.is_live(),
                on_change=self._clock.wake,
            )
            self._publisher.check_topic()
            self._begin(before if resumed else None)
            failure = self._work()
        report = self._report(time.monotonic() - started, failure)
        if self._request.report:
            report.write(self._request.report)
        log.info("%s", report)
        if failure is not None:
            raise failure
        return report

    def _begin(self, before: StreamState | None) -> None:
        """Take the lease: at the cursor with the old timeline where this goes on, else afresh."""
        request = self._request
        fields: dict[str, Any] = {}
        if before is not None:
            self._position, self._timeline = before.cursor, before.timeline
            self._began_us = self._clock.now_us()
        else:
            start = request.from_ if isinstance(request.from_, datetime) else None
            self._position = Position(to_us(start)) if start else None
            fields = {
                "wanted": True, "cursor": self._position, "timeline": None, "next_due": None,
                "last_published": None, "request": tuple(request.to_argv()),
            }  # fmt: skip
        holder = f"{socket.gethostname()}:{os.getpid()}"
        self._lease = Lease.acquire(self._store, request.stream, holder, request.lease_seconds, **fields)
        place = f"from {_place(self._position)}" if self._position else "from the first row"
        log.info("%s: replay %s, speed %s, epoch %d", request.stream, place, request.speed, self._lease.epoch)

    def _start_timeline(self, first_us: int) -> Timeline:
        """The clock starts once rows are at hand: what reading took must not make the first ones late."""
        start = self._request.from_
        event_us = to_us(start) if isinstance(start, datetime) else first_us
        speed = None if self._request.speed == MAX else float(self._request.speed)
        return Timeline(event_us=event_us, wall_us=self._clock.now_us(), speed=speed)

    def _work(self) -> RejeuError | None:
        """Send and save until something ends it; returns what went wrong, if anything did."""
        done = threading.Event()
        reader = threading.Thread(target=self._read, name="reader", daemon=True)
        keeper = threading.Thread(target=self._keep, args=(done,), name="keeper", daemon=True)
        failure: RejeuError | None = None
        finished = False
        reader.start()
        keeper.start()
        try:
            with Progress(self._describe) as progress:
                finished = self._send_all(progress)
        except RejeuError as error:
            failure = error
        finally:
            self._stopping.set()
            drained = self._publisher.drain(DRAIN_SECONDS)
            done.set()
            keeper.join()
        failure = failure or self._lost or self._publisher.error
        if failure is None and not drained:
            failure = PublishError(
                f"{self._request.topic_path}: rows sent were not acknowledged in {DRAIN_SECONDS:g} s"
            )
        status = Status.FAILED if failure else Status.FINISHED if finished else Status.STOPPED
        self._lease.release(status, error=str(failure) if failure else None, **self._reached())
        return failure

    def _send_all(self, progress: Progress) -> bool:
        """Send every row when it is due; False where it was told to stop before the end."""
        for chunk in self._arriving():
            at = 0
            while at < len(chunk.data):
                self._next_event_us = chunk.event_us[at]
                if self._stopping.is_set():
                    return False
                self._check()
                progress.tick()
                at = self._send_due(chunk, at)
        self._next_event_us = None
        return not self._stopping.is_set()

    def _send_due(self, chunk: Chunk, at: int) -> int:
        """Send the rows that are due from index `at` on, or wait a little; returns the next index."""
        if self._timeline is None:
            self._timeline = self._start_timeline(chunk.event_us[at])
        timeline = self._timeline
        now = self._clock.now_us()
        wait_us = timeline.due_us(chunk.event_us[at]) - now
        if wait_us > 0:
            self._clock.wait(min(wait_us / 1_000_000, LONGEST_WAIT_SECONDS))
            return at
        end = _fit(chunk, at, timeline, now)
        batch = self._batch(chunk, at, end)
        if not self._publisher.send(batch, self._stopping.is_set):
            return at
        self._lateness.add(timeline, chunk.event_us[at:end], self._clock.now_us())
        self._position = batch.end
        if timeline.speed is None:
            return end
        if timeline.due_us(chunk.event_us[at]) < self._began_us:
            self._owed += bisect_right(chunk.event_us, timeline.event_at(self._began_us), at, end) - at
        if end - at < MAX_REQUEST_MESSAGES:
            time.sleep(TICK_SECONDS)
        return end

    def _batch(self, chunk: Chunk, at: int, end: int) -> Batch:
        rows = [
            (data, row_id, format_instant(from_us(event_us)))
            for data, row_id, event_us in zip(
                chunk.data[at:end], chunk.row_ids[at:end], chunk.event_us[at:end], strict=True
            )
        ]
        request = build_request(self._publisher.topic, rows, self._request.stream, str(self._lease.epoch))
        last_us = chunk.event_us[end - 1]
        count = end - max(at, bisect_left(chunk.event_us, last_us, at, end))
        if self._position is not None and self._position.event_us == last_us:
            count += self._position.count
        return Batch(request, chunk.event_us[at], Position(last_us, count), end - at)

    def _check(self) -> None:
        """Raise what another thread met; make sure of the lease before anything is sent."""
        if self._lost is not None:
            raise self._lost
        if self._publisher.error is not None:
            raise self._publisher.error
        if not self._lease.is_live():
            self._lease.checkpoint(**self._reached())

    def _arriving(self) -> Iterator[Chunk]:
        """The chunks that the reader thread has ready; raises here what it met there."""
        while not self._stopping.is_set():
            try:
                arrived = self._chunks.get(timeout=LONGEST_WAIT_SECONDS)
            except queue.Empty:
                self._check()
                continue
            if arrived is END:
                return
            if isinstance(arrived, BaseException):
                raise arrived
            yield arrived

    def _read(self) -> None:
        """Reader thread: chunks into the queue, then the end or the error that ended it."""
        try:
            for chunk in read_chunks(self._request, self._position):
                if not self._offer(chunk):
                    return
            self._offer(END)
        except RejeuError as error:
            self._offer(error)
        except Exception as error:  # whatever a driver raises must end the replay, not just this thread
            log.exception("%s: reading failed", self._request.stream)
            wrapped = RejeuError(f"{self._request.stream}: reading failed: {type(error).__name__}: {error}")
            self._offer(wrapped)

    def _offer(self, item: Chunk | BaseException | None) -> bool:
        while not self._stopping.is_set():
            try:
                self._chunks.put(item, timeout=LONGEST_WAIT_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def _keep(self, done: threading.Event) -> None:
        """Keeper thread: a checkpoint every so often; it also hears what others wish of this replay."""
        while not done.wait(self._request.checkpoint_seconds):
            try:
                state = self._lease.checkpoint(status=Status.RUNNING, **self._reached())
            except LeaseLostError as error:
                self._lost = error
                self._clock.wake()
                return
            except StateError as error:
                # The lease decides: while it holds, rows may flow; once it ran out, nothing is sent.
                log.warning("%s: checkpoint failed, trying again: %s", self._request.stream, error)
                continue
            if not state.wanted and not self._stopping.is_set():
                log.info("%s: stop requested", self._request.stream)
                self.stop()

    def _reached(self) -> dict[str, Any]:
        """What a checkpoint saves, beside the renewal."""
        cursor = self._publisher.cursor
        pending_us = self._publisher.oldest_pending()
        due_us = pending_us if pending_us is not None else self._next_event_us
        fields: dict[str, Any] = {
            "published": self._publisher.acknowledged,
            "owed": self._owed,
            "timeline": self._timeline,
        }
        if cursor is not None:
            fields["cursor"] = cursor
            fields["last_published"] = self._publisher.last_acknowledged
            fields["resumed_at"] = self._publisher.first_acknowledged
        if due_us is not None and self._timeline is not None:
            fields["next_due"] = from_us(self._timeline.due_us(due_us))
        return fields

    def _describe(self) -> str:
        place = _place(self._publisher.cursor) if self._publisher.cursor else "nothing acknowledged yet"
        return f"{self._request.stream}: {self._publisher.acknowledged:,} rows published, cursor {place}"

    def _report(self, seconds: float, failure: RejeuError | None) -> Report:
        return Report(
            stream=self._request.stream,
            status=self._lease.state.status,
            published=self._publisher.acknowledged,
            seconds=round(seconds, 3),
            messages_per_second=round(self._publisher.acknowledged / seconds, 1),
            lateness_ms=self._lateness.milliseconds(),
            cursor=_cursor_json(self._publisher.cursor or self._position),
            epoch=self._lease.epoch,
            error=str(failure) if failure else None,
        )


def _fit(chunk: Chunk, at: int, timeline: Timeline, now_us: int) -> int:
    """The end of the rows from `at` on that are due now and fit into one request."""
    limit = min(at + MAX_REQUEST_MESSAGES, len(chunk.data))
    if timeline.speed is not None:
        limit = max(at + 1, bisect_right(chunk.event_us, timeline.event_at(now_us), at, limit))
    size = 0
    for index in range(at, limit):
        size += len(chunk.data[index]) + REQUEST_OVERHEAD_BYTES
        if size > MAX_MESSAGE_BYTES and index > at:
            return index
    return limit


def _place(position: Position) -> str:
    return f"{format_instant(from_us(position.event_us))} (+{position.count})"


def _cursor_json(position: Position | None) -> dict[str, Any] | None:
    if position is None:
        return None
    return {"event_time": format_instant(from_us(position.event_us)), "rows_at_that_time": position.count}
