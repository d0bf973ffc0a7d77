"""A source that changes at the cursor's own instant between two replays: no row of it is lost, and none is doubled."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rejeu.replay.order
from rejeu.jobs.request import CURSOR, ReplayRequest
from rejeu.message import ROW_ID
from rejeu.replay.chunk import Chunk
from rejeu.replay.order import in_order
from rejeu.replay.read_ahead import ReadAhead
from rejeu.state.model import StreamState
from rejeu.timeline import Position
from tests.fakes.breaking_store import Store
from tests.fakes.broker import FakeBroker
from tests.replay.rows import SECONDS, TOPIC, MakeReplay, rows_of

Row = tuple[int, str, str]
"""Event time, key, body."""
View = dict[str, bytes]
"""What the live view shows: the rows by their ids, each once."""


def request(*key: str) -> ReplayRequest:
    return ReplayRequest.of(topic=TOPIC, stream="feed", file="f", event_time="at", key=key)


def source(rows: Sequence[Row], asked: ReplayRequest, start: Position | None = None, seed: int = 0) -> Iterator[Chunk]:
    """What a replay publishes of these rows, whose storage has an order of its own."""
    served = [row for row in rows if start is None or row[0] >= start.event_us]
    random.Random(seed).shuffle(served)
    served.sort(key=lambda row: row[0])
    times, keys, bodies = ([row[index] for row in served] for index in range(3))
    columns: dict[str, Any] = {"event_us": pa.array(times, pa.int64()), "row": pa.array(bodies, pa.binary())}
    columns |= {"key0": pa.array(keys, pa.string())} if asked.key else {}
    return in_order([pa.table(columns)], asked, start)


def publish(chunks: Iterator[Chunk], view: View, rows: int | None = None) -> Position | None:
    """Publish all of these rows, or so many, and remember the position as a state document does."""
    reached = None
    for chunk in chunks:
        count = len(chunk) if rows is None else min(len(chunk), rows)
        rows = None if rows is None else rows - count
        if count:
            for _, row_id, body in rows_of(chunk)[:count]:
                view.setdefault(row_id, body)
            reached = chunk.position_after(count)
    document = StreamState(stream="feed", cursor=reached).model_dump_json()
    return StreamState.model_validate_json(document).cursor


def replayed_twice(
    case: tuple[list[Row], int, list[Row]], asked: ReplayRequest, size: int, seed: int
) -> tuple[View, View, list[Row]]:
    """The view after the first replay and after the second one, and the rows from the cursor on that this one had."""
    before, published, after = case
    view: View = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rejeu.replay.order, "CHUNK_ROWS", size)
        cursor = publish(source(before, asked), view, published)
        assert cursor is not None
        seen = view.copy()
        later = [row for row in after if row[0] >= cursor.event_us]
        publish(source(later, asked, cursor, seed), view)
    return seen, view, later


def contents(view: View) -> Counter[tuple[int, bytes]]:
    return Counter((int(row_id.split("/")[1]), body) for row_id, body in view.items())


def bodies_of(rows: Sequence[Row]) -> Counter[tuple[int, bytes]]:
    return Counter((event_us, body.encode()) for event_us, _, body in rows)


@st.composite
def changed(draw: st.DrawFn, row: st.SearchStrategy[Row]) -> tuple[list[Row], int, list[Row]]:
    """Rows, how many are published, and the rows as they are afterwards: changed from the cursor's instant on."""
    before = sorted(draw(st.lists(row, min_size=1, max_size=12)))
    published = draw(st.integers(1, len(before)))
    at = before[published - 1][0]
    kept = [each for each in before if each[0] < at or draw(st.integers(0, 3))]
    added = [each for each in draw(st.lists(row, max_size=6)) if each[0] >= at]
    return before, published, [*kept, *added]


ROWS = st.tuples(st.integers(0, 2), st.sampled_from("kl"), st.sampled_from("abcd"))
NAMED = st.tuples(st.integers(0, 2), st.sampled_from("ghijklmnop")).map(lambda row: (*row, f"{row[1]} of {row[0]}"))


def once(rows: Sequence[Row]) -> list[Row]:
    return sorted(set(rows))


@given(changed(NAMED), st.integers(1, 4), st.integers())
@settings(max_examples=120, deadline=None)
def test_rows_that_their_key_names_are_in_the_view_once(
    case: tuple[list[Row], int, list[Row]], size: int, seed: int
) -> None:
    rows = once(case[0])
    published, after = min(case[1], len(rows)), once([row for row in case[2] if row[0] >= case[0][case[1] - 1][0]])
    seen, view, later = replayed_twice((rows, published, after), request("k"), size, seed)
    assert contents(view) == contents(seen) | bodies_of(later)


@given(changed(ROWS), st.integers(1, 4), st.integers())
@settings(max_examples=120, deadline=None)
def test_rows_without_a_key_are_in_the_view_as_often_as_in_the_source(
    case: tuple[list[Row], int, list[Row]], size: int, seed: int
) -> None:
    seen, view, later = replayed_twice(case, request(), size, seed)
    assert contents(view) == contents(seen) | bodies_of(later)


@given(changed(ROWS), st.integers(1, 4), st.integers())
@settings(max_examples=120, deadline=None)
def test_of_rows_that_share_a_key_none_is_lost_and_those_alone_double_whose_key_was_theirs_alone(
    case: tuple[list[Row], int, list[Row]], size: int, seed: int
) -> None:
    before, _, _ = case
    seen, view, later = replayed_twice(case, request("k"), size, seed)
    for key in {row[:2] for row in later}:
        shared = {_is_shared(key, rows) for rows in (before, later)}
        found, first, now = _of(key, view), _of(key, seen), bodies_of([row for row in later if row[:2] == key])
        if shared == {False}:
            assert found.total() == max(first.total(), now.total()), "one row, which may have changed"
        elif shared == {True}:
            assert found == first | now
        else:
            assert first | now <= found <= first + now


def _of(key: tuple[int, str], view: View) -> Counter[tuple[int, bytes]]:
    """The rows of this time and key."""
    beginning = f"feed/{key[0]}/{key[1]}"
    return contents({row_id: body for row_id, body in view.items() if row_id.startswith(beginning)})


def _is_shared(key: tuple[int, str], rows: Sequence[Row]) -> bool:
    """Whether rows that differ have this time and key."""
    return len({each for each in rows if each[:2] == key}) > 1


@given(changed(ROWS), st.integers(1, 4), st.integers())
@settings(max_examples=30, deadline=None)
def test_a_standby_that_read_another_source_than_the_holder_loses_and_doubles_nothing(
    case: tuple[list[Row], int, list[Row]], size: int, seed: int
) -> None:
    before, published, after = case
    asked, view = request(), dict[str, bytes]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rejeu.replay.order, "CHUNK_ROWS", size)
        cursor = publish(source(before, asked), view, published)
        assert cursor is not None
        seen = contents(view)
        later = [row for row in after if row[0] >= cursor.event_us]
        with ReadAhead(lambda start: source(after, asked, start, seed), None) as ahead:
            ahead.skip(cursor)
            publish(ahead.chunks(lambda: True), view)
    assert contents(view) == seen | bodies_of(later)


# What the state says


def test_a_position_of_which_nobody_knows_the_rows_counts_them_as_ever() -> None:
    asked = request("k")
    rows = [(5, "a", "1"), (5, "b", "2"), (6, "c", "3")]
    whole = [row for chunk in source(rows, asked) for row in rows_of(chunk)]
    old = StreamState.model_validate({"stream": "feed", "cursor": {"event_us": 5, "count": 1}}).cursor
    assert [row for chunk in source(rows, asked, old) for row in rows_of(chunk)] == whole[1:]


def test_what_stands_at_an_instant_has_one_digest_however_it_is_cut() -> None:
    rows = [(5, f"k{number:02d}", "x") for number in range(20)]
    digests = set()
    for size in (1, 3, 7, 50):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rejeu.replay.order, "CHUNK_ROWS", size)
            *_, last = source(rows, request("k"))
        digests.add(last.position_after(len(last)).digest)
    assert len(digests) == 1


# Through the replay


def line(second: int, name: str) -> bytes:
    return b'{"at":"2021-05-01T00:00:%02dZ","n":"%s"}\n' % (second, name.encode())


def names(broker: FakeBroker) -> list[str]:
    return sorted({message.attributes[ROW_ID].split("/")[2] for message in broker.got})


def test_a_file_that_grows_within_its_last_second_is_gone_on_with_whole(
    broker: FakeBroker, store: Store, replay: MakeReplay, file: Path
) -> None:
    file.write_bytes(line(0, "a") + line(1, "c") + line(1, "e"))
    replay().run()
    file.write_bytes(line(0, "a") + b"".join(line(1, name) for name in "bcde") + line(2, "f"))
    replay(from_=CURSOR).run()
    assert names(broker) == list("abcdef"), "b and d came between those that were published"
    assert store.stream.cursor is not None
    published = len(broker.got)
    replay(from_=CURSOR).run()
    assert len(broker.got) == published, "it has seen this one"


def test_a_file_that_does_not_change_is_gone_on_with_and_no_row_comes_twice(
    broker: FakeBroker, replay: MakeReplay, file: Path
) -> None:
    file.write_bytes(b"".join(line(1, name) for name in "abcde"))
    replay().run()
    replay(from_=CURSOR).run()
    assert len(broker.got) == 5


def test_a_standby_goes_on_with_what_its_source_has_now(
    broker: FakeBroker, store: Store, replay: MakeReplay, file: Path, background: Callable[..., Any]
) -> None:
    file.write_bytes(line(0, "a") + line(1, "c") + line(1, "e") + line(50, "z"))
    holder = replay(speed=1, lease_seconds=SECONDS)
    running = background(holder)
    store.wait_for(lambda: store.stream.published == 3)
    file.write_bytes(line(0, "a") + b"".join(line(1, name) for name in "bcde") + line(50, "z"))
    waiting = background(replay(standby=True))
    holder.stop()
    running.result(SECONDS)
    waiting.result(SECONDS)
    assert names(broker) == list("abcdez")
