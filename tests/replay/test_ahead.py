"""Reading ahead: everything arrives in its order, errors too, and nothing is read for nobody."""

import threading
from collections.abc import Iterator

import pytest

from rejeu.errors import RejeuError, RowError
from rejeu.replay.ahead import CHUNKS_AHEAD, ReadAhead
from rejeu.replay.order import Chunk


def chunk(number: int) -> Chunk:
    return Chunk([number], [f"clicks/{number}/k/0"], [b"%d" % number])


def always() -> bool:
    return True


def test_chunks_arrive_in_their_order_to_the_last() -> None:
    with ReadAhead(lambda: map(chunk, range(3 * CHUNKS_AHEAD))) as ahead:
        assert [each.event_us for each in ahead.chunks(always)] == [[number] for number in range(3 * CHUNKS_AHEAD)]


def test_an_error_arrives_behind_the_chunks_before_it() -> None:
    def read() -> Iterator[Chunk]:
        yield chunk(1)
        raise RowError("row 2 is wrong")

    with ReadAhead(read) as ahead:
        chunks = ahead.chunks(always)
        assert next(chunks) == chunk(1)
        with pytest.raises(RowError, match="row 2 is wrong"):
            next(chunks)


def test_what_a_driver_raises_is_an_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> Iterator[Chunk]:
        raise ZeroDivisionError("somewhere deep")

    expected = "reading failed: ZeroDivisionError: somewhere deep: see the log above"
    with ReadAhead(read) as ahead, pytest.raises(RejeuError, match=expected):
        next(ahead.chunks(always))
    assert "Traceback" in caplog.text


def test_only_a_few_chunks_are_read_ahead_of_who_takes_them() -> None:
    read: list[int] = []
    full = threading.Event()

    def count() -> Iterator[Chunk]:
        for number in range(100):
            read.append(number)
            if len(read) == CHUNKS_AHEAD + 1:
                full.set()
            yield chunk(number)

    with ReadAhead(count):
        assert full.wait(10)
    assert len(read) == CHUNKS_AHEAD + 1


def test_who_goes_no_further_gets_no_chunk_however_long_the_source_takes() -> None:
    never = threading.Event()
    turns = iter([True, True, False])

    def read() -> Iterator[Chunk]:
        never.wait(10)
        yield chunk(1)

    with ReadAhead(read) as ahead:
        assert list(ahead.chunks(lambda: next(turns))) == []
        never.set()
