"""The replay from start to end: take the lease, let read, send and save, and say how it ended."""

from __future__ import annotations

import logging
import os
import socket
import time
from datetime import datetime
from typing import Any, Final

from rejeu.errors import PublishError, RejeuError, StateError
from rejeu.gcp.clients import publisher_channel
from rejeu.ports import StateStore
from rejeu.replay.ahead import ReadAhead
from rejeu.replay.chunks import read_chunks
from rejeu.replay.keeper import Keeper
from rejeu.replay.pacer import Clock
from rejeu.replay.publisher import Publisher
from rejeu.replay.report import Progress, Report, check_writable
from rejeu.replay.sender import Sender, format_position
from rejeu.request import CURSOR, MAX, ReplayRequest
from rejeu.state import open_store
from rejeu.state.lease import Lease
from rejeu.state.model import Status
from rejeu.timeline import Position, format_instant, from_us, to_us

log = logging.getLogger(__name__)

TURN_SECONDS: Final = 0.2
"""How long anything is waited for before the replay looks whether it is still to go on."""
DRAIN_SECONDS: Final = 20.0


class Replay:
    """One run of a request; `stop` may be called from a signal handler, at any time."""

    def __init__(self, request: ReplayRequest, store: StateStore | None = None, clock: Clock | None = None) -> None:
        self._request = request
        self._store = store or open_store(request.state)
        self._clock = clock or Clock()
        self._stopping = False

    def stop(self) -> None:
        """Publish nothing more, wait for what is under way, save the cursor, give the lease up."""
        # A flag and no Event: a signal handler that asks for a lock may have interrupted whoever holds it.
        self._stopping = True

    def run(self) -> Report:
        """Publish until the end of the source, or until stopped. Raises RejeuError; the cursor is saved either way."""
        started = time.monotonic()
        request = self._request
        if request.report:
            check_writable(request.report)
        with publisher_channel() as channel:
            lease = self._take_lease()
            publisher = Publisher(
                channel, request.topic_path, patience_seconds=request.patience_seconds, may_publish=lease.is_live
            )
            sender = self._sender(lease, publisher)
            status, failure = self._work(lease, publisher, sender)
            publisher.close()
        seconds = time.monotonic() - started
        report = Report(
            stream=request.stream,
            status=status,
            published=publisher.acknowledged.rows,
            seconds=round(seconds, 3),
            messages_per_second=round(publisher.acknowledged.rows / seconds, 1),
            lateness_ms=sender.lateness.milliseconds(),
            cursor=_cursor_json(sender.cursor),
            epoch=lease.epoch,
            error=str(failure) if failure else None,
        )
        if request.report:
            report.write(request.report)
        log.info("%s", report)
        if failure is not None:
            raise failure
        return report

    def _take_lease(self) -> Lease:
        """The right to publish; the stream's cursor and timeline come with it, unless this replay starts afresh."""
        request = self._request
        fields: dict[str, Any] = {"request": tuple(request.to_argv())}
        if request.from_ != CURSOR:
            start = Position(to_us(request.from_)) if isinstance(request.from_, datetime) else None
            fields |= {"wanted": True, "cursor": start, "timeline": None, "next_due": None, "last_published": None}
        holder = f"{socket.gethostname()}:{os.getpid()}"
        lease = Lease.acquire(self._store, request.stream, holder, request.lease_seconds, **fields)
        if not lease.state.wanted:
            self._stop_unwanted()
        return lease

    def _sender(self, lease: Lease, publisher: Publisher) -> Sender:
        cursor, speed = lease.state.cursor, self._request.speed
        place = f"from {format_position(cursor)}" if cursor else "from the first row"
        log.info("%s: replay %s, speed %s, epoch %d", self._request.stream, place, speed, lease.epoch)
        return Sender(
            publisher,
            self._clock,
            stream=self._request.stream,
            epoch=lease.epoch,
            speed=None if speed == MAX else float(speed),
            start=cursor,
            timeline=lease.state.timeline,
        )

    def _work(self, lease: Lease, publisher: Publisher, sender: Sender) -> tuple[Status, RejeuError | None]:
        """Publish until something ends it, then save what was reached; how it ended, and what went wrong."""
        request = self._request
        finished, failure = False, None
        with Keeper(
            lease,
            sender.reached,
            self._stop_unwanted,
            every=request.checkpoint_seconds,
            patience=request.patience_seconds,
        ) as keeper:
            try:
                finished = self._publish(publisher, sender, keeper)
            except RejeuError as error:
                failure = error
            _drain(publisher, keeper)
        failure = failure or keeper.error or publisher.error or _left_behind(publisher)
        status = Status.FAILED if failure else Status.FINISHED if finished else Status.STOPPED
        try:
            lease.release(status, error=str(failure) if failure else None, **sender.reached())
        except StateError as error:
            return Status.FAILED, failure or error
        return status, failure

    def _publish(self, publisher: Publisher, sender: Sender, keeper: Keeper) -> bool:
        """Send every row when it is due, and see all acknowledged; False where it was told to stop before that."""
        start = sender.cursor

        def goes_on() -> bool:
            """To be asked wherever something is waited for: raises here what other threads met."""
            if error := keeper.error or publisher.error:
                raise error
            progress.tick()
            return not self._stopping

        with (
            Progress(sender.describe) as progress,
            ReadAhead(lambda: read_chunks(self._request, start)) as ahead,
        ):
            publisher.check_topic(goes_on)
            for chunk in ahead.chunks(goes_on):
                at = 0
                while at < len(chunk.data):
                    if not goes_on():
                        return False
                    at = sender.send(chunk, at)
            while goes_on():
                if publisher.settle(TURN_SECONDS):
                    return True
            return False

    def _stop_unwanted(self) -> None:
        if not self._stopping:
            log.info("%s: nobody wants this stream any more, so its replay ends", self._request.stream)
        self.stop()


def _drain(publisher: Publisher, keeper: Keeper) -> None:
    """Wait for what is under way; where the lease is lost, nothing more will be sent."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while keeper.error is None and time.monotonic() < deadline and not publisher.settle(TURN_SECONDS):
        pass


def _left_behind(publisher: Publisher) -> PublishError | None:
    if publisher.oldest_pending() is None:
        return None
    return PublishError(
        f"{publisher.topic} did not acknowledge in {DRAIN_SECONDS:g} s what was sent before the stop: what was "
        "acknowledged is saved; start again with --from cursor"
    )


def _cursor_json(position: Position | None) -> dict[str, Any] | None:
    if position is None:
        return None
    return {"event_time": format_instant(from_us(position.event_us)), "rows_at_that_time": position.count}
