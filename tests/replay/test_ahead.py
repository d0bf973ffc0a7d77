"""Reading ahead: everything arrives in its order, errors too, and nothing is read for nobody."""

import threading
from collections.abc import Iterable, Iterator

import pytest

from rejeu.errors import RejeuError, RowError
from rejeu.replay.chunk import Chunk
from rejeu.replay.read_ahead import CHUNKS_AHEAD, ReadAhead
from rejeu.timeline import Position
from tests.replay.rows import chunk_of

SECONDS = 10.0


def chunk(number: int, rows: int = 1) -> Chunk:
    """Rows of one instant, which is the number."""
    return chunk_of([(number, f"clicks/{number}/k/{row}", b"%d" % number) for row in range(rows)])


def numbers(chunks: Iterable[Chunk]) -> list[int]:
    return [int(each.event_us[0]) for each in chunks]


def always() -> bool:
    return True


def test_chunks_arrive_in_their_order_to_the_last() -> None:
    with ReadAhead(lambda _: map(chunk, range(3 * CHUNKS_AHEAD)), None) as ahead:
        assert numbers(ahead.chunks(always)) == list(range(3 * CHUNKS_AHEAD))


def test_an_error_arrives_behind_the_chunks_before_it() -> None:
    def read(start: Position | None) -> Iterator[Chunk]:
        yield chunk(1)
        raise RowError("row 2 is wrong")

    with ReadAhead(read, None) as ahead:
        chunks = ahead.chunks(always)
        assert numbers([next(chunks)]) == [1]
        with pytest.raises(RowError, match="row 2 is wrong"):
            next(chunks)


def test_what_a_driver_raises_is_an_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    def read(start: Position | None) -> Iterator[Chunk]:
        raise ZeroDivisionError("somewhere deep")

    expected = "reading failed: ZeroDivisionError: somewhere deep: see the log above"
    with ReadAhead(read, None) as ahead, pytest.raises(RejeuError, match=expected):
        next(ahead.chunks(always))
    assert "Traceback" in caplog.text


def test_only_a_few_chunks_are_read_ahead_of_who_takes_them() -> None:
    read: list[int] = []
    full = threading.Event()

    def count(start: Position | None) -> Iterator[Chunk]:
        for number in range(100):
            read.append(number)
            if len(read) == CHUNKS_AHEAD + 1:
                full.set()
            yield chunk(number)

    with ReadAhead(count, None):
        assert full.wait(SECONDS)
    assert len(read) == CHUNKS_AHEAD + 1


def test_who_goes_no_further_gets_no_chunk_however_long_the_source_takes() -> None:
    never = threading.Event()
    turns = iter([True, True, False])

    def read(start: Position | None) -> Iterator[Chunk]:
        never.wait(SECONDS)
        yield chunk(1)

    with ReadAhead(read, None) as ahead:
        assert list(ahead.chunks(lambda: next(turns))) == []
        never.set()


# Skipping


class Source:
    """Chunks that are read, and how far that got."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._chunks = list(chunks)
        self._given = -1
        self._changed = threading.Condition()

    def __call__(self, start: Position | None) -> Iterator[Chunk]:
        for each in self._chunks:
            self._note()
            yield each
        self._note()

    def wait_for(self, count: int) -> None:
        """Wait until so many chunks are at hand, or were."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._given >= count, SECONDS), self._given

    def _note(self) -> None:
        with self._changed:
            self._given += 1
            self._changed.notify_all()


def test_chunks_that_end_before_a_place_are_let_go_so_that_those_behind_it_are_read() -> None:
    source, place = Source(map(chunk, range(10 * CHUNKS_AHEAD))), Position(5 * CHUNKS_AHEAD, 1)
    with ReadAhead(source, None) as ahead:
        for number in range(6 * CHUNKS_AHEAD):
            source.wait_for(number + 1)
            ahead.skip(place)
        assert numbers(ahead.chunks(always)) == list(range(5 * CHUNKS_AHEAD + 1, 10 * CHUNKS_AHEAD))


@pytest.mark.parametrize(
    ("place", "left"),
    [
        (Position(4, 2), [5, 5]),
        (Position(5, 0), [5, 5]),
        (Position(5, 1), [5, 5]),
        (Position(5, 2), [5]),
        (Position(5, 3), [5]),
        (Position(5, 4), []),
        (Position(6, 0), []),
    ],
)
def test_a_chunk_that_holds_a_row_behind_the_place_is_kept(place: Position, left: list[int]) -> None:
    parts = [chunk(4), chunk(5, rows=4).part(0, 2), chunk(5, rows=4).part(2, 4)]
    with ReadAhead(lambda _: iter(parts), None) as ahead:
        ahead._reading.thread.join(SECONDS)
        ahead.skip(place)
        assert numbers(ahead.chunks(always)) == left


def test_skipping_where_nothing_is_at_hand_waits_for_nothing() -> None:
    may_read = threading.Event()

    def read(start: Position | None) -> Iterator[Chunk]:
        may_read.wait(SECONDS)
        yield from (chunk(8), chunk(9))

    with ReadAhead(read, None) as ahead:
        ahead.skip(Position(9))
        may_read.set()
        assert numbers(ahead.chunks(always)) == [9], "and what comes later is skipped when it comes"


def test_the_end_and_an_error_are_not_skipped() -> None:
    def break_off(start: Position | None) -> Iterator[Chunk]:
        yield chunk(1)
        raise RowError("row 2 is wrong")

    with ReadAhead(lambda _: iter([chunk(1)]), None) as ended, ReadAhead(break_off, None) as broken:
        for ahead in (ended, broken):
            ahead._reading.thread.join(SECONDS)
            for _ in range(3):
                ahead.skip(Position(9))
        assert list(ended.chunks(always)) == []
        with pytest.raises(RowError):
            list(broken.chunks(always))
