"""Reconciling, without I/O on rows: which event times are compared, what was found, and which are known to be complete.

The comparison itself is the job's, `beam_jobs.reconcile`.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from rejeu.bigquery.records import Comparison
from rejeu.errors import RequestError, StateConflictError
from rejeu.jobs.build import replay_request
from rejeu.jobs.request import ReconcileRequest, SourceRequest
from rejeu.ports import StateStore
from rejeu.spec.model import StreamSpec
from rejeu.state.documents import Document, EventTime, SideDocument, read_document, save_document
from rejeu.state.model import Status, StoredPosition, StreamState
from rejeu.target import Target
from rejeu.timeline import MICROSECOND, Position, format_instant, from_us

TOLD_SHARE = 0.001
"""The share of the rows from which on a person is told that they were dropped."""
WORST_SHOWN = 3


class Span(BaseModel):
    """Event times from `from_time`, inclusive (None: the source's first row), to `until_time`, exclusive.

    `last` is the position of a finished stream that ended with this span: where it is another one now, the source has
    grown at the last instant or after it.
    """

    model_config = ConfigDict(frozen=True)

    from_time: datetime | None
    until_time: datetime
    last: Position | None = None

    def holds(self, instant: datetime | None) -> bool:
        """Whether it begins at this instant or before (None: the source's first row), and does not end before it."""
        begins = self.from_time is None or (instant is not None and self.from_time <= instant)
        return begins and (instant is None or instant <= self.until_time)

    def joined(self, other: Span) -> Span | None:
        """Both as one span; None where there is a gap between them."""
        if not (self.holds(other.from_time) or other.holds(self.from_time)):
            return None
        begins = (self.from_time, other.from_time)
        longer = self if self.until_time > other.until_time else other
        return Span(
            from_time=None if None in begins else min(filter(None, begins)),
            until_time=longer.until_time,
            last=longer.last,
        )

    def known_until(self, cursor: Position) -> datetime:
        """Up to where this span needs no other look, exclusive, once a stream has come to this cursor."""
        last = self.last
        if last is None or last.has_rows_of(cursor):
            return self.until_time
        return from_us(last.event_us)


class Compared(Document):
    """The event times of which all rows are known to be in the table, as the state store has them."""

    from_time: EventTime | None
    until_time: EventTime
    last: StoredPosition | None = None

    @property
    def span(self) -> Span:
        return Span(from_time=self.from_time, until_time=self.until_time, last=self.last)


class FaultyMinute(BaseModel):
    """What is wrong in a minute of a key of the source. Without a minute, `key` is the id of a row that is not ours."""

    model_config = ConfigDict(frozen=True)

    minute: datetime | None
    key: str
    expected: int = 0
    missing: int = 0
    doubles: int = 0
    unexpected: int = 0

    @property
    def faults(self) -> int:
        return self.missing + self.doubles + self.unexpected

    def __str__(self) -> str:
        found = f"{self.missing} of {self.expected} missing, {self.doubles} double, {self.unexpected} unexpected"
        return f"{format_instant(self.minute) if self.minute else 'no minute'} {self.key}: {found}"


class Reconciliation(Comparison):
    """What a comparison found, and where it found most."""

    minutes: int
    worst: tuple[FaultyMinute, ...] = ()

    @property
    def dropped(self) -> int:
        """Rows that did not get into the table by themselves: missing at first, or dead letters only."""
        return self.missing + self.dead_letters

    @property
    def must_be_told(self) -> bool:
        """Whether so many rows were dropped that a person is told, though they may be healed by now."""
        return self.dropped > 0 and self.dropped >= TOLD_SHARE * self.expected

    @property
    def span(self) -> Span:
        return Span(from_time=self.from_time, until_time=self.until_time)

    def __str__(self) -> str:
        begin = "the first row" if self.from_time is None else format_instant(self.from_time)
        worst = "".join(f"; {each}" for each in self.worst[:WORST_SHOWN])
        return (
            f"{self.stream}: from {begin} to {format_instant(self.until_time)}, {self.minutes:,} minutes: "
            f"{self.expected:,} rows expected, {self.found:,} found ({self.dead_letters:,} as dead letters), "
            f"{self.missing:,} missing, {self.healed:,} healed, {self.still_missing:,} still missing, "
            f"{self.doubles:,} double, {self.unexpected:,} unexpected{worst}"
        )


def span_to_compare(
    state: StreamState, done: Span | None, from_time: datetime | None = None, until_time: datetime | None = None
) -> Span | None:
    """The span to compare: up to the cursor, from the end of the last comparison that found everything.

    Either end may be given by hand, within what was streamed: RequestError is raised for an end beyond it. None
    where nothing was streamed since.
    """
    if state.cursor is None:
        return None
    first, last = _began(state), _reached(state)
    if from_time is not None and first is not None and from_time < first:
        rule = f"the stream began at {format_instant(first)}, and nothing before it was streamed"
        raise RequestError(f"from is {format_instant(from_time)}: {rule}; give that instant or a later one")
    if until_time is not None and until_time > last:
        rule = f"rows are published up to {format_instant(last)} only"
        raise RequestError(f"until is {format_instant(until_time)}: {rule}; give that instant or an earlier one")
    begin = from_time or (done.known_until(state.cursor) if done is not None and done.holds(first) else first)
    end = until_time or last
    if begin is None or begin < end:
        return Span(from_time=begin, until_time=end)
    if from_time is None and until_time is None:
        return None
    raise RequestError(f"from {format_instant(begin)} is not before until {format_instant(end)}: give a window")


def reconcile_request(spec: StreamSpec, target: Target, span: Span, report: str) -> ReconcileRequest:
    """The job that compares this stream with its source. Raises RequestError where the stream has no replay."""
    replay = replay_request(spec, target, span.from_time, None)
    return ReconcileRequest.of(
        **replay.model_dump(include=set(SourceRequest.model_fields) - {"until"}),
        until=span.until_time,
        pipeline=spec.live.pipeline,
        streaming_table=target.table(spec.live.table),
        streaming_time=spec.event_time,
        dead_letters=target.table(spec.dead_letters),
        report=report,
        settle_seconds=spec.reconcile.settle.total_seconds(),
    )


def read_done(store: StateStore, stream: str) -> Span | None:
    """The event times of which all rows are known to be in the table. Raises StateError."""
    found, _ = read_document(store, SideDocument.RECONCILED.of(stream), Compared)
    return None if found is None else found.span


def remember_done(store: StateStore, state: StreamState, new: Span) -> None:
    """Remember a span that was found complete; of two with a gap between them only one is kept.

    When two runs write at once, one span is forgotten, and compared once more later. Raises StateError.
    """
    if state.status is Status.FINISHED and state.cursor is not None and new.until_time == _reached(state):
        new = new.model_copy(update={"last": state.cursor})
    name = SideDocument.RECONCILED.of(state.stream)
    found, version = read_document(store, name, Compared)
    if found is not None:
        joined = found.span.joined(new)
        # With a gap, keep the one that the next comparison can go on from.
        new = joined or (found.span if found.span.holds(_began(state)) else new)
    compared = Compared(**dict(new)) if found is None else found.model_copy(update=dict(new))
    with suppress(StateConflictError):
        save_document(store, name, compared, version)


def _began(state: StreamState) -> datetime | None:
    return None if state.since is None else from_us(state.since.event_us)


def _reached(state: StreamState) -> datetime:
    """The first event time that may have unpublished rows: the cursor's own, unless the source has ended."""
    assert state.cursor is not None, "a stream without a cursor has reached nothing"
    at = from_us(state.cursor.event_us)
    return at + MICROSECOND if state.status is Status.FINISHED else at
