"""Replay order and row ids: the same whatever the storage does, wherever the tables are cut, wherever one starts."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rejeu.replay.order
from rejeu.errors import RowError, SourceError
from rejeu.jobs.request import ReplayRequest, Shard
from rejeu.message import MAX_KEY_CHARS, MAX_MESSAGE_BYTES, digest
from rejeu.replay.chunk import Chunk
from rejeu.replay.order import in_order
from rejeu.timeline import Position
from tests.replay.rows import TOPIC, Rows, rows_of

Row = tuple[int, int, str]
"""Event time, key, body."""

ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), st.sampled_from("abc")), max_size=30)


def request(*key: str, ordering: tuple[str, ...] = ()) -> ReplayRequest:
    return ReplayRequest.of(topic=TOPIC, stream="feed", file="f", event_time="at", key=key, ordering_key=ordering)


KEYED, WHOLE = request("k"), request()


def rows_table(rows: Sequence[Row], *, keyed: bool = True) -> pa.Table:
    times, keys, bodies = ([row[index] for row in rows] for index in range(3))
    return keyed_table(times, bodies, *([keys] if keyed else []))


def keyed_table(times: Sequence[int], bodies: Sequence[str], *keys: Sequence[Any]) -> pa.Table:
    """A table as `rejeu.replay.source.rows` has it."""
    columns = {
        "event_us": pa.array(times, pa.int64()),
        "row": pa.array([f'{{"v":"{body}"}}' for body in bodies], pa.binary()),
    }
    return pa.table(columns | {f"key{index}": pa.array(column) for index, column in enumerate(keys)})


def ordered(tables: Sequence[pa.Table], start: Position | None = None, asked: ReplayRequest = KEYED) -> Rows:
    return [row for chunk in in_order(tables, asked, start) for row in rows_of(chunk)]


def ordering_keys(table: pa.Table, asked: ReplayRequest) -> list[str]:
    chunks = list(in_order([table], asked))
    return [key for chunk in chunks if chunk.ordering is not None for key in chunk.ordering.to_pylist()]


def position_after(rows: Rows, end: int) -> Position:
    """By counting, which `Chunk` is too fast for."""
    event_us = rows[end - 1][0]
    return Position(event_us, sum(row[0] == event_us for row in rows[:end]))


@st.composite
def served(draw: st.DrawFn) -> tuple[list[Row], list[pa.Table]]:
    """Rows, and the tables in which a storage may serve them: cut anywhere, shuffled within each table."""
    rows = draw(ROWS)
    chance = random.Random(draw(st.integers()))
    by_time = sorted(rows, key=lambda row: (row[0], chance.random()))
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=5)))
    tables = []
    for start, end in pairwise([0, *cuts, len(rows)]):
        part = by_time[start:end]
        chance.shuffle(part)
        tables.append(rows_table(part))
    return rows, tables


@contextmanager
def chunks_of(rows: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rejeu.replay.order, "CHUNK_ROWS", rows)
        yield


# Order and ids


@given(served())
@settings(max_examples=300, deadline=None)
def test_order_and_ids_do_not_depend_on_how_the_storage_serves_the_rows(case: tuple[list[Row], list[pa.Table]]) -> None:
    rows, tables = case
    result = ordered(tables)
    assert result == ordered([rows_table(rows)])
    assert [(event_us, data) for event_us, _, data in result] == [
        (row[0], f'{{"v":"{row[2]}"}}'.encode()) for row in sorted(rows)
    ]
    assert len({identity for _, identity, _ in result}) == len(rows)


def test_equal_rows_are_counted_and_ids_say_time_key_and_ordinal() -> None:
    table = rows_table([(5, 1, "b"), (5, 2, "a"), (5, 1, "b"), (6, 1, "a")])
    assert [identity for _, identity, _ in ordered([table])] == [
        "feed/5/1/0",
        "feed/5/1/1",
        "feed/5/2/0",
        "feed/6/1/0",
    ]


def test_rows_that_share_time_and_key_and_differ_have_ids_that_no_other_row_can_move() -> None:
    a, b = (digest(f'{{"v":"{name}"}}'.encode()) for name in "ab")
    table = rows_table([(5, 1, "b"), (5, 1, "a"), (5, 2, "a"), (5, 1, "b")])
    assert [identity for _, identity, _ in ordered([table])] == [
        f"feed/5/1~{a}/0",
        f"feed/5/1~{b}/0",
        f"feed/5/1~{b}/1",
        "feed/5/2/0",
    ]


def test_equal_rows_of_several_tables_are_counted_on() -> None:
    tables = [rows_table([(4, 1, "a"), (5, 1, "a")]), rows_table([(5, 1, "a")]), rows_table([(5, 1, "a"), (6, 1, "a")])]
    assert [identity for _, identity, _ in ordered(tables)] == [
        "feed/4/1/0",
        "feed/5/1/0",
        "feed/5/1/1",
        "feed/5/1/2",
        "feed/6/1/0",
    ]


def test_without_a_key_the_row_itself_is_the_key() -> None:
    table = rows_table([(5, 0, "b"), (5, 0, "a"), (5, 0, "a")], keyed=False)
    name = digest(b'{"v":"a"}')
    assert {f"feed/5/{name}/0", f"feed/5/{name}/1"} < {identity for _, identity, _ in ordered([table], asked=WHOLE)}


def test_structs_are_encoded() -> None:
    table = pa.table({"event_us": [1], "row": [{"n": 1, "b": b"x"}]})
    assert [data for _, _, data in ordered([table], asked=WHOLE)] == [b'{"n":1,"b":"eA=="}']


# Places


@given(served(), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_a_start_anywhere_gives_exactly_the_rest(case: tuple[list[Row], list[pa.Table]], rows: int) -> None:
    _, tables = case
    whole = ordered(tables)
    with chunks_of(rows):
        for done in range(1, len(whole) + 1):
            start = position_after(whole, done)
            from_there = [table.filter(pa.compute.field("event_us") >= start.event_us) for table in tables]
            assert ordered(from_there, start) == whole[done:]


@given(served(), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_every_place_is_found_again_in_chunks_that_were_read_from_any_other(
    case: tuple[list[Row], list[pa.Table]], rows: int
) -> None:
    _, tables = case
    whole = ordered(tables)
    places = [position_after(whole, end) for end in range(1, len(whole) + 1)]
    for read_from in [None, *places]:
        with chunks_of(rows):
            chunks = list(in_order(tables, KEYED, read_from))
        assert [place for chunk in chunks for place in _places(chunk)] == [
            place for place in places if read_from is None or place > read_from
        ]
        for place in places:
            rest = [row for chunk in chunks for row in rows_of(chunk)[chunk.index(place) :]]
            assert rest == [row for row, its in zip(whole, places, strict=True) if its > max(place, read_from or place)]


def _places(chunk: Chunk) -> list[Position]:
    return [chunk.position_after(end) for end in range(1, len(chunk) + 1)]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.data())
@settings(deadline=None)
def test_a_part_of_a_part_has_the_places_and_columns_of_the_whole(times: list[int], data: st.DataObject) -> None:
    table = keyed_table(sorted(times), ["a"] * len(times), list(range(len(times))))
    part, *_ = in_order([table], request("k", ordering=("k",)))
    places, rows, first = _places(part), rows_of(part), 0
    for _ in range(3):
        at = data.draw(st.integers(0, len(part) - 1))
        end = data.draw(st.integers(at + 1, len(part)))
        part, first = part.part(at, end), first + at
        assert _places(part) == places[first : first + len(part)]
        assert rows_of(part) == rows[first : first + len(part)]
        assert part.ordering is not None
        assert part.ordering.to_pylist() == [identity.split("/")[2] for _, identity, _ in rows_of(part)]


def test_a_place_before_the_first_row_is_the_first_and_none_is_too() -> None:
    [chunk] = in_order([rows_table([(5, 1, "a"), (5, 2, "a")])], KEYED)
    assert [chunk.index(place) for place in (None, Position(4, 9), Position(5, 0))] == [0, 0, 0]
    assert [chunk.index(place) for place in (Position(5, 1), Position(5, 2), Position(5, 9), Position(6, 0))] == [
        *(1, 2, 2, 2)
    ]


# Chunks


def test_chunks_stay_small_even_within_one_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejeu.replay.order, "CHUNK_ROWS", 10)
    table = rows_table([(5, n, "a") for n in range(25)])
    assert [len(chunk) for chunk in in_order([table], KEYED)] == [12, 13]


def test_chunks_of_long_rows_have_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejeu.replay.order, "CHUNK_BYTES", 10_000)
    table = rows_table([(n, n, "a" * 2_000) for n in range(20)])
    chunks = list(in_order([table], KEYED))
    assert max(len(chunk) for chunk in chunks) <= 5
    assert sum(len(chunk) for chunk in chunks) == 20


def test_a_row_longer_than_a_chunk_may_be_is_a_chunk_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejeu.replay.order, "CHUNK_BYTES", 1)
    table = rows_table([(n, n, "a") for n in range(3)])
    assert [len(chunk) for chunk in in_order([table], KEYED)] == [1, 1, 1]


def test_a_source_that_goes_back_in_time_is_refused() -> None:
    with pytest.raises(SourceError, match=r"goes back in time, to 1970-01-01T00:00:00\.000001Z after"):
        ordered([rows_table([(2, 0, "a")]), rows_table([(1, 0, "a")])])


def test_a_row_that_pubsub_would_not_take_is_named_and_nothing_from_it_on_is_given_out() -> None:
    tables = [rows_table([(1, 7, "a"), (2, 8, "b" * MAX_MESSAGE_BYTES), (3, 9, "c")])]
    chunks = in_order(tables, KEYED)
    assert next(chunks).row_ids.to_pylist() == ["feed/1/7/0"]
    with pytest.raises(RowError, match=r"row feed/2/8/0 has 10,000,008 bytes.*Pub/Sub takes 10,000,000"):
        next(chunks)


# Shards


def as_structs(table: pa.Table) -> pa.Table:
    """The same rows, not encoded yet."""
    rows = pa.array(map(json.loads, table["row"].to_pylist()), pa.struct({"v": pa.string()}))
    return table.set_column(table.column_names.index("row"), "row", rows)


@given(served(), st.integers(1, 5), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_shards_together_have_every_row_once_under_its_id(
    case: tuple[list[Row], list[pa.Table]], count: int, keyed: bool, encoded: bool
) -> None:
    _, tables = case
    asked = KEYED if keyed else WHOLE
    if not keyed:
        tables = [table.select(["event_us", "row"]) for table in tables]
    if not encoded:
        tables = list(map(as_structs, tables))
    shards = [ordered(tables, asked=asked.model_copy(update={"shard": Shard(i, count)})) for i in range(count)]
    assert sorted(row for shard in shards for row in shard) == sorted(ordered(tables, asked=asked))
    assert all(shard == sorted(shard, key=lambda row: row[0]) for shard in shards)


@given(served(), st.integers(0, 1))
@settings(max_examples=50, deadline=None)
def test_a_shard_goes_on_where_it_ended(case: tuple[list[Row], list[pa.Table]], index: int) -> None:
    _, tables = case
    asked = KEYED.model_copy(update={"shard": Shard(index, 2)})
    whole = ordered(tables, asked=asked)
    for done in range(1, len(whole) + 1):
        assert ordered(tables, position_after(whole, done), asked) == whole[done:]


def test_rows_of_a_key_are_always_in_the_same_shard() -> None:
    early, late = rows_table([(n, n % 7, "a") for n in range(50)]), rows_table([(n, n % 7, "b") for n in range(50, 99)])
    for index in range(3):
        shard = KEYED.model_copy(update={"shard": Shard(index, 3)})
        first, then = ({row[1].split("/")[2] for row in ordered([table], asked=shard)} for table in (early, late))
        assert first == then


def test_rows_of_an_ordering_key_are_in_one_shard_or_nobody_could_keep_their_order() -> None:
    table = keyed_table(range(60), ["a"] * 60, [f"user{n % 6}" for n in range(60)], list(range(60)))
    asked = request("user", "n", ordering=("user",))
    shards = [set(ordering_keys(table, asked.model_copy(update={"shard": Shard(index, 3)}))) for index in range(3)]
    assert sum(map(len, shards)) == 6
    assert len(set.union(*shards)) == 6


def test_keys_are_spread_over_the_shards() -> None:
    table = rows_table([(n, n, "a") for n in range(4_000)])
    sizes = [len(ordered([table], asked=KEYED.model_copy(update={"shard": Shard(i, 4)}))) for i in range(4)]
    assert all(900 < size < 1_100 for size in sizes)


# Ordering keys


def test_without_an_ordering_key_there_is_none() -> None:
    assert ordering_keys(rows_table([(1, 1, "a")]), KEYED) == []


def test_an_ordering_key_is_made_of_its_columns_in_their_order() -> None:
    table = keyed_table([3, 1, 2], "aaa", ["x", "y", None], [1, 2, 3])
    assert ordering_keys(table, request("a", "b", ordering=("b",))) == ["2", "3", "1"]
    assert ordering_keys(table, request("a", "b", ordering=("b", "a"))) == ["2~y", "3~\\N", "1~x"]


def test_rows_of_one_instant_keep_their_ordering_keys_when_they_are_sorted() -> None:
    table = keyed_table([5, 5, 5], "cba", [3, 1, 2], ["three", "one", "two"])
    assert ordering_keys(table, request("n", "name", ordering=("name",))) == ["one", "two", "three"]


def test_a_long_ordering_key_is_hashed_as_a_long_key_is() -> None:
    long = "k" * (MAX_KEY_CHARS + 1)
    table = keyed_table([1, 2], "ab", [long, "short"])
    assert ordering_keys(table, request("k", ordering=("k",))) == [digest(long.encode()), "short"]
