"""The wire format, held against protobuf itself: whatever the rows, it reads from the bytes what it would have said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from google.pubsub_v1 import types
from hypothesis import given, settings
from hypothesis import strategies as st

from rejeu.message import EPOCH, EVENT_TIME, MAX_BODY_BYTES, MAX_MESSAGE_BYTES, ROW_ID, STREAM
from rejeu.replay.chunk import Chunk
from rejeu.replay.format.wire import Messages, messages, topic_field
from rejeu.timeline import format_instant, from_us
from tests.replay.rows import T0, TOPIC, Rows, chunk_of

pytestmark = pytest.mark.slow

PublishRequest, PubsubMessage = types.PublishRequest.pb(), types.PubsubMessage.pb()
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999."""

ROWS = st.lists(
    st.tuples(st.integers(FIRST_US, LAST_US), st.text(min_size=1, max_size=250), st.binary(max_size=300)),
    min_size=1,
    max_size=20,
)


def expected(
    topic: str, rows: Rows, stream: str, epoch: int, ordering: Sequence[str] | None = None
) -> types.PublishRequest:
    """What protobuf makes of the same rows."""
    request = PublishRequest(topic=topic)
    for index, (event_us, row_id, data) in enumerate(rows):
        attributes = {ROW_ID: row_id, EVENT_TIME: format_instant(from_us(event_us)), STREAM: stream, EPOCH: str(epoch)}
        request.messages.add(data=data, attributes=attributes, ordering_key=ordering[index] if ordering else "")
    return request


def read(request: bytes) -> types.PublishRequest:
    return PublishRequest.FromString(request)


def all_of(chunk: Chunk, stream: str = "clicks", epoch: int = 3, topic: str = TOPIC) -> types.PublishRequest:
    return read(messages(chunk, stream, epoch).request(topic_field(topic), 0, len(chunk)))


def rows(*sizes: int) -> Rows:
    return [(T0 + n, f"clicks/{T0 + n}/{n}/0", b"%d" % n * size) for n, size in enumerate(sizes)]


def made(*sizes: int) -> Messages:
    return messages(chunk_of(rows(*sizes)), "clicks", 3)


# What is said


@given(ROWS, st.from_regex(r"[a-z][a-z0-9_]{2,62}", fullmatch=True), st.integers(1, 2**40), st.text(max_size=300))
@settings(deadline=None)
def test_whatever_the_rows_the_request_is_what_protobuf_would_have_made(
    rows: Rows, stream: str, epoch: int, topic: str
) -> None:
    assert all_of(chunk_of(rows), stream, epoch, topic) == expected(topic, rows, stream, epoch)


@given(ROWS, st.data())
@settings(deadline=None)
def test_whatever_the_ordering_keys_each_message_has_its_own(rows: Rows, data: st.DataObject) -> None:
    ordering = data.draw(st.lists(st.text(max_size=200), min_size=len(rows), max_size=len(rows)))
    assert all_of(chunk_of(rows, ordering)) == expected(TOPIC, rows, "clicks", 3, ordering)


@given(ROWS, st.data())
@settings(deadline=None)
def test_rows_of_a_part_and_of_any_selection_are_the_rows_asked_for(rows: Rows, data: st.DataObject) -> None:
    ordering = [f"key{n % 3}" for n in range(len(rows))]
    start = data.draw(st.integers(0, len(rows) - 1))
    end = data.draw(st.integers(start + 1, len(rows)))
    part = chunk_of(rows, ordering).part(start, end)
    rows, ordering = rows[start:end], ordering[start:end]
    sent, topic = messages(part, "clicks", 3), topic_field(TOPIC)
    at = data.draw(st.integers(0, len(rows) - 1))
    assert read(sent.request(topic, at, len(rows))) == expected(TOPIC, rows[at:], "clicks", 3, ordering[at:])
    chosen = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1)))
    assert read(sent.request_of(topic, np.array(chosen))) == expected(
        TOPIC, [rows[row] for row in chosen], "clicks", 3, [ordering[row] for row in chosen]
    )


@pytest.mark.parametrize("edge", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_sizes_around_those_that_need_another_byte_are_written_right(edge: int) -> None:
    """A length is written in bytes of seven bits; the message's own is that of the data and some more."""
    sizes = [size for size in (*range(edge - 130, edge - 110), *range(edge - 3, edge + 4)) if size >= 0]
    large = rows(*sizes) if edge < 1_000_000 else rows(*sizes[::5])
    assert all_of(chunk_of(large)) == expected(TOPIC, large, "clicks", 3)


def test_ids_of_every_length_are_written_right() -> None:
    every = [(T0, "i" * size, b"") for size in range(1, 1_001)]
    assert all_of(chunk_of(every)) == expected(TOPIC, every, "clicks", 3)


def test_small_and_large_rows_of_one_chunk_do_not_disturb_each_other() -> None:
    mixed = rows(0, 3_000_000, 1, 200, 0, 20_000)
    assert all_of(chunk_of(mixed)) == expected(TOPIC, mixed, "clicks", 3)


def test_the_largest_row_with_the_longest_of_everything_is_one_that_pubsub_takes() -> None:
    longest = "\N{ROCKET}" * 200
    stream = "s" * 63
    largest = [(LAST_US, f"{stream}/{FIRST_US}/{longest}/{10**6}", b"x" * MAX_BODY_BYTES)]
    topic = topic_field(f"projects/{'p' * 30}/topics/{'t' * 255}")
    request = messages(chunk_of(largest, [longest]), stream, 10**9).request(topic, 0, 1)
    assert len(request) <= MAX_MESSAGE_BYTES


# Limits


def size_of(sent: Messages, start: int, end: int) -> int:
    return len(sent.request(b"", start, end))


@given(st.lists(st.integers(0, 500), min_size=1, max_size=30), st.integers(1, 3_000), st.data())
@settings(deadline=None)
def test_as_many_rows_fit_as_have_so_many_bytes_and_one_at_least(
    sizes: list[int], limit_bytes: int, data: st.DataObject
) -> None:
    sent = made(*sizes)
    at = data.draw(st.integers(0, len(sizes) - 1))
    limit = data.draw(st.integers(at + 1, len(sizes)))
    end = sent.fit(at, limit, limit_bytes)
    assert at < end <= limit
    assert end == at + 1 or size_of(sent, at, end) <= limit_bytes
    assert end == limit or size_of(sent, at, end + 1) > limit_bytes


@given(st.lists(st.integers(0, 500), min_size=1, max_size=30), st.integers(1, 3_000), st.data())
@settings(deadline=None)
def test_pieces_are_the_rows_in_their_order_and_none_is_too_large_but_a_single_row(
    sizes: list[int], limit_bytes: int, data: st.DataObject
) -> None:
    sent = made(*sizes)
    chosen = np.array(sorted(data.draw(st.sets(st.integers(0, len(sizes) - 1), min_size=1))))
    pieces = sent.pieces(chosen, limit_bytes)
    assert np.concatenate(pieces).tolist() == chosen.tolist()
    sizes_of = [len(sent.request_of(b"", piece)) for piece in pieces]
    assert all(size <= limit_bytes or len(piece) == 1 for size, piece in zip(sizes_of, pieces, strict=True))
    for size, following in zip(sizes_of, pieces[1:], strict=False):
        assert size + len(sent.request_of(b"", following[:1])) > limit_bytes, "it would have fitted in"
