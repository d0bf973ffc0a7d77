"""Which event times are compared, and what is known to be whole afterwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rejeu.errors import RequestError
from rejeu.jobs.request import ReconcileRequest
from rejeu.reconcile import Span, read_done, remember_done, span_to_compare
from rejeu.state.model import Status, StreamState
from rejeu.testing import MemoryStore
from rejeu.timeline import MICROSECOND, Position, to_us

MIDNIGHT = datetime(2021, 5, 1, tzinfo=UTC)


def at(hour: float) -> datetime:
    return MIDNIGHT + timedelta(hours=hour)


def streamed(since: float | None, cursor: float | None, status: Status = Status.RUNNING) -> StreamState:
    """The state of a stream that began and has come so far."""
    began, reached = (None if hour is None else Position(to_us(at(hour))) for hour in (since, cursor))
    return StreamState(stream="rates", since=began, cursor=reached, status=status)


def span(begin: float | None, end: float) -> Span:
    return Span(from_time=None if begin is None else at(begin), until_time=at(end))


# What is compared


def test_the_first_comparison_begins_where_the_stream_began() -> None:
    assert span_to_compare(streamed(1, 5), None) == span(1, 5)


def test_a_stream_from_the_first_row_is_compared_from_the_first_row() -> None:
    assert span_to_compare(streamed(None, 5), None) == span(None, 5)


def test_the_next_comparison_goes_on_where_the_last_one_ended() -> None:
    assert span_to_compare(streamed(1, 5), span(1, 4)) == span(4, 5)


def test_the_instant_of_the_cursor_is_left_for_later_for_more_of_its_rows_may_come() -> None:
    compared = span_to_compare(streamed(1, 5), None)
    assert compared is not None
    assert compared.until_time == at(5)


def test_of_a_finished_stream_the_last_instant_is_compared_too() -> None:
    compared = span_to_compare(streamed(1, 5, Status.FINISHED), None)
    assert compared is not None
    assert compared.until_time == at(5) + MICROSECOND


@pytest.mark.parametrize("grown", [Position(to_us(at(5)), 3, "three"), Position(to_us(at(5)), 2, "others")])
def test_a_stream_that_went_on_at_its_last_instant_is_compared_there_again(grown: Position) -> None:
    store, began = MemoryStore(), Position(to_us(at(1)))
    two = Position(to_us(at(5)), 2, "two")
    state = StreamState(stream="rates", since=began, cursor=two, status=Status.FINISHED)
    compared = span_to_compare(state, None)
    assert compared is not None
    remember_done(store, state, compared)
    done = read_done(store, "rates")
    assert span_to_compare(state, done) is None, "nothing came since"
    again = state.model_copy(update={"cursor": grown})
    assert span_to_compare(again, done) == Span(from_time=at(5), until_time=at(5) + MICROSECOND)
    beyond = again.model_copy(update={"cursor": Position(to_us(at(6)), 1, "one"), "status": Status.RUNNING})
    assert span_to_compare(beyond, done) == span(5, 6)


def test_what_was_compared_by_hand_before_the_end_does_not_make_the_end_known() -> None:
    store, state = MemoryStore(), streamed(1, 5, Status.FINISHED)
    whole = span_to_compare(state, None)
    assert whole is not None
    remember_done(store, state, whole)
    grown = state.model_copy(update={"cursor": Position(to_us(at(5)), 9, "nine")})
    remember_done(store, grown, span(2, 3))
    assert span_to_compare(grown, read_done(store, "rates")) == Span(from_time=at(5), until_time=at(5) + MICROSECOND)


@pytest.mark.parametrize(
    ("state", "done"), [(streamed(1, None), None), (streamed(1, 1), None), (streamed(1, 5), span(1, 5))]
)
def test_without_new_rows_there_is_nothing_to_compare(state: StreamState, done: Span | None) -> None:
    assert span_to_compare(state, done) is None


def test_a_stream_that_began_anew_before_what_is_known_is_compared_from_there() -> None:
    assert span_to_compare(streamed(0, 5), span(1, 4)) == span(0, 5)


def test_a_stream_that_began_anew_behind_a_gap_is_compared_from_there() -> None:
    assert span_to_compare(streamed(6, 8), span(1, 4)) == span(6, 8)


def test_a_stream_that_went_back_into_what_is_known_is_not_compared_there_again() -> None:
    assert span_to_compare(streamed(2, 5), span(1, 4)) == span(4, 5)


def test_a_window_by_hand_may_be_anything_that_was_streamed() -> None:
    assert span_to_compare(streamed(1, 5), span(1, 5), at(2), at(3)) == span(2, 3)


@pytest.mark.parametrize(
    ("begin", "end", "complaint"),
    [
        (0.5, None, "from is 2021-05-01T00:30:00.000000Z: the stream began at 2021-05-01T01:00"),
        (None, 5.5, "until is 2021-05-01T05:30:00.000000Z: rows are published up to 2021-05-01T05:00"),
        (3, 2, "is not before until"),
        (5, None, "is not before until"),
    ],
)
def test_a_window_by_hand_beyond_what_was_streamed_is_refused(
    begin: float | None, end: float | None, complaint: str
) -> None:
    wishes = (None if hour is None else at(hour) for hour in (begin, end))
    with pytest.raises(RequestError, match=complaint):
        span_to_compare(streamed(1, 5), None, *wishes)


# What is known to be whole


@pytest.mark.parametrize(
    ("before", "new", "known"),
    [
        (span(1, 4), span(4, 5), span(1, 5)),
        (span(2, 4), span(1, 2), span(1, 4)),
        (span(1, 4), span(2, 3), span(1, 4)),
        (span(1, 4), span(None, 2), span(None, 4)),
        (span(1, 3), span(4, 5), span(1, 3)),
        (span(5, 6), span(1, 4), span(1, 4)),
    ],
    ids=["behind", "before", "within", "from the first row", "a gap behind", "a gap before"],
)
def test_what_is_whole_grows_without_gaps(before: Span, new: Span, known: Span) -> None:
    store, state = MemoryStore(), streamed(1, 6)
    remember_done(store, state, before)
    remember_done(store, state, new)
    assert read_done(store, "rates") == known


def test_what_is_whole_is_remembered_beside_the_streams_own_document() -> None:
    store = MemoryStore()
    assert read_done(store, "rates") is None
    remember_done(store, streamed(1, 6), span(1, 4))
    assert store.names() == ["rates.reconciled"]


# The job


def test_a_request_survives_its_way_through_arguments() -> None:
    request = ReconcileRequest.of(
        topic="projects/rejeu-test/topics/rates",
        stream="rates",
        table="band.requests",
        event_time="block_time",
        key=("request",),
        from_=at(1),
        until=at(5),
        pipeline="rates",
        streaming_table="rejeu-test.live.rates",
        streaming_time="timestamp",
        dead_letters="rejeu-test.live.dead",
        report="gs://bucket/report.json",
        settle_seconds=0.5,
    )
    assert ReconcileRequest.from_argv(request.to_argv()) == request
    assert request.job_name == "rejeu-reconcile-rates"


def test_a_comparison_without_an_end_is_refused() -> None:
    with pytest.raises(RequestError, match="required: --until"):
        ReconcileRequest.from_argv(["--topic=projects/rejeu-test/topics/rates", "--file=x", "--event-time=at"])
