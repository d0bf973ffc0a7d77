"""The replay from start to end: take the lease, read, send, save, and report how it ended."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from typing import Any, Final

from rejeu.errors import LeaseHeldError, PublishError, RejeuError, StateError
from rejeu.gcp.clients import publisher_channel
from rejeu.jobs.request import ReplayRequest
from rejeu.ports import StateStore
from rejeu.replay.keeper import Keeper
from rejeu.replay.read_ahead import ReadAhead
from rejeu.replay.reading import read_chunks
from rejeu.replay.report import Progress, Report, check_writable
from rejeu.replay.send.pacer import Clock
from rejeu.replay.send.publisher import Publisher
from rejeu.replay.send.sender import Sender, format_position
from rejeu.replay.standby import Standby
from rejeu.spec.types import MAX
from rejeu.state import open_store, rhythm
from rejeu.state.lease import Lease
from rejeu.state.lease_watch import LeaseWatch
from rejeu.state.model import Status, StreamState
from rejeu.timeline import Position, format_instant, from_us, to_us

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.2
"""How long the replay waits for anything before it checks whether it must stop."""
DRAIN_SECONDS: Final = 20.0
LEASES_AWAITED: Final = 1.5
"""For how many leases a holder is waited for: a lease that stands still for one is free."""


class Replay:
    """One run of a request; `stop` and `pause` may be called from a signal handler, at any time."""

    def __init__(self, request: ReplayRequest, store: StateStore | None = None, clock: Clock | None = None) -> None:
        self._request = request
        self._store = store or open_store(request.state)
        self._clock = clock or Clock()
        self._rhythm = rhythm(request.state, request.checkpoint_seconds, request.lease_seconds)
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._stopping = False
        self._asked_pause: bool | None = None

    def stop(self) -> None:
        """Publish nothing more, wait for what is under way, save the cursor, and give the lease up."""
        # A flag, not an Event: a signal handler could wait for a lock that the code it interrupted holds.
        self._stopping = True

    def pause(self, paused: bool) -> None:
        """Pause at the position reached, or go on: it takes effect once the next checkpoint has saved it."""
        self._asked_pause = paused

    def run(self) -> Report:
        """Publish until the end of the source, or until stopped. Raises RejeuError; the cursor is saved either way."""
        started = time.monotonic()
        request = self._request
        if request.report:
            check_writable(request.report)
        report, failure = self._replay(started)
        if request.report:
            report.write(request.report)
        log.info("%s", report)
        if failure is not None:
            raise failure
        return report

    def _replay(self, started: float) -> tuple[Report, RejeuError | None]:
        request = self._request
        with publisher_channel() as channel, ExitStack() as stack:
            if request.standby:
                standby = stack.enter_context(Standby(request, self._store, self._rhythm, self._holder))
                taken = standby.wait(lambda: not self._stopping, self._take_lease)
                if taken is None:
                    return Report.of_nothing(request.stream, Status.STOPPED, time.monotonic() - started), None
                lease, ahead = taken
            else:
                lease = self._await_lease()
                ahead = stack.enter_context(ReadAhead(partial(read_chunks, request), lease.state.cursor))
            publisher = Publisher(
                channel, request.topic_path, patience_seconds=request.patience_seconds, may_publish=lease.is_held
            )
            sender = self._sender(lease, publisher)
            status, failure = self._work(lease, publisher, sender, ahead)
            publisher.close()
        seconds = time.monotonic() - started
        return _report(request, status, seconds, lease, sender, failure), failure

    def _await_lease(self) -> Lease:
        """The lease, once it is free: a holder that has just died keeps it for a while. Raises LeaseHeldError."""
        watched = LeaseWatch()
        deadline = time.monotonic() + LEASES_AWAITED * self._rhythm.lease_seconds
        while True:
            try:
                return self._take_lease(watched)
            except LeaseHeldError:
                if self._stopping or time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)

    def _take_lease(self, watched: LeaseWatch) -> Lease:
        """Take the lease, with the stream's cursor and timeline unless this replay starts afresh."""
        request = self._request
        # A relaunch repeats these arguments to publish, not to stand by.
        alone = request.model_copy(update={"standby": False, "twin": False})
        # The rows of an API are due when they come, so nothing is to be known before.
        fields: dict[str, Any] = {"request": tuple(alone.to_argv()), "ready": bool(request.api)}
        if not request.resumes:
            start = Position(to_us(request.from_)) if isinstance(request.from_, datetime) else None
            fields |= {
                "wanted": True,
                "cursor": start,
                "since": start,
                "timeline": None,
                "next_due": None,
                "last_published": None,
            }
            fields |= {"paused": False, "speed": None}
        seconds = self._rhythm.lease_seconds
        lease = Lease.acquire(self._store, request.state_name, self._holder, seconds, watched=watched, **fields)
        if not lease.state.wanted:
            self._stop_unwanted()
        return lease

    def _sender(self, lease: Lease, publisher: Publisher) -> Sender:
        state, speed = lease.state, self._speed(lease.state)
        start = f"from {format_position(state.cursor)}" if state.cursor else "from the first row"
        log.info("%s: replay %s, speed %s, epoch %d", self._request.state_name, start, speed or MAX, lease.epoch)
        return Sender(
            publisher,
            self._clock,
            stream=self._request.stream,
            epoch=lease.epoch,
            speed=speed,
            start=state.cursor,
            timeline=state.timeline,
            paused=state.paused,
        )

    def _speed(self, state: StreamState) -> float | None:
        """The speed by which rows are due: what somebody set since the stream was started, else the request's.

        The rows of an API are due when they come; there the speed says how often the API is asked.
        """
        speed = MAX if self._request.api else state.speed or self._request.speed
        return None if speed == MAX else float(speed)

    def _work(
        self, lease: Lease, publisher: Publisher, sender: Sender, ahead: ReadAhead
    ) -> tuple[Status, RejeuError | None]:
        """Publish to the end, a stop or an error, then save the cursor; returns how it ended and the error."""

        def on_state(state: StreamState) -> None:
            if state.paused == self._asked_pause:
                self._asked_pause = None
            sender.pace(self._speed(state), paused=state.paused)
            if not state.wanted:
                self._stop_unwanted()

        finished, failure = False, None
        with Keeper(
            lease,
            lambda: sender.reached() | self._asked_by_signal(),
            on_state,
            every=self._rhythm.checkpoint_seconds,
            patience=self._request.patience_seconds,
        ) as keeper:
            try:
                finished = self._publish(publisher, sender, keeper, ahead)
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

    def _publish(self, publisher: Publisher, sender: Sender, keeper: Keeper, ahead: ReadAhead) -> bool:
        """Send every row when it is due, until all are acknowledged; False where it was stopped before that."""

        def goes_on() -> bool:
            """Whether to go on; called during every wait. Raises the errors of the other threads."""
            if error := keeper.error or publisher.error:
                raise error
            progress.tick()
            return not self._stopping

        with Progress(sender.describe) as progress:
            publisher.check_topic(goes_on)
            for chunk in ahead.chunks(goes_on):
                at = 0
                while at < len(chunk):
                    if not goes_on():
                        return False
                    at = sender.send(chunk, at)
            while goes_on():
                if publisher.settle(POLL_SECONDS):
                    return True
            return False

    def _asked_by_signal(self) -> dict[str, bool]:
        """What a signal asked for and no checkpoint has saved yet."""
        return {} if self._asked_pause is None else {"paused": self._asked_pause}

    def _stop_unwanted(self) -> None:
        if not self._stopping:
            log.info("%s: the stream is no longer wanted, so its replay ends", self._request.state_name)
        self.stop()


def _drain(publisher: Publisher, keeper: Keeper) -> None:
    """Wait for what is under way, unless the lease is lost: then nothing more is sent."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while keeper.error is None and time.monotonic() < deadline and not publisher.settle(POLL_SECONDS):
        pass


def _left_behind(publisher: Publisher) -> PublishError | None:
    if publisher.oldest_pending() is None:
        return None
    return PublishError(
        f"{publisher.topic} did not acknowledge in {DRAIN_SECONDS:g} s what was sent before the stop: the cursor is "
        "saved up to the last row that it did acknowledge; start again with --from cursor"
    )


def _report(
    request: ReplayRequest, status: Status, seconds: float, lease: Lease, sender: Sender, failure: RejeuError | None
) -> Report:
    published, cursor = sender.published, sender.cursor
    return Report(
        stream=request.stream,
        status=status,
        published=published,
        seconds=round(seconds, 3),
        messages_per_second=round(published / seconds, 1),
        lateness_ms=sender.lateness.milliseconds(),
        cursor=None
        if cursor is None
        else {"event_time": format_instant(from_us(cursor.event_us)), "rows_at_that_time": cursor.count},
        epoch=lease.epoch,
        error=str(failure) if failure else None,
    )
