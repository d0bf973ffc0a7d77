"""Replay order and row ids: the same whatever the storage does, wherever the tables are cut, wherever one starts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rejeu.replay.order
from rejeu.errors import RowError, SourceError
from rejeu.message import MAX_MESSAGE_BYTES, digest
from rejeu.replay.order import in_order
from rejeu.timeline import Position

Row = tuple[int, int, str]
"""Event time, key, body."""

ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), st.sampled_from("abc")), max_size=30)


def rows_table(rows: Sequence[Row], *, keyed: bool = True) -> pa.Table:
    times, keys, bodies = ([row[index] for row in rows] for index in range(3))
    columns = {
        "event_us": pa.array(times, pa.int64()),
        "row": pa.array([f'{{"v":"{body}"}}' for body in bodies], pa.binary()),
    }
    return pa.table(columns | ({"key0": pa.array(keys, pa.int64())} if keyed else {}))


def ordered(tables: Sequence[pa.Table], start: Position | None = None) -> list[tuple[int, str, bytes]]:
    return [
        row
        for chunk in in_order(tables, "feed", start)
        for row in zip(chunk.event_us, chunk.row_ids, chunk.data, strict=True)
    ]


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


@given(served(), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_a_start_anywhere_gives_exactly_the_rest(case: tuple[list[Row], list[pa.Table]], chunk_rows: int) -> None:
    _, tables = case
    whole = ordered(tables)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rejeu.replay.order, "CHUNK_ROWS", chunk_rows)
        for done, (event_us, _, _) in enumerate(whole):
            count = sum(row[0] == event_us for row in whole[:done])
            from_there = [table.filter(pa.compute.field("event_us") >= event_us) for table in tables]
            assert ordered(from_there, Position(event_us, count)) == whole[done:]


def test_equal_rows_are_counted_and_ids_say_time_key_and_ordinal() -> None:
    table = rows_table([(5, 1, "b"), (5, 1, "a"), (5, 2, "a"), (5, 1, "b")])
    assert [identity for _, identity, _ in ordered([table])] == [
        "feed/5/1/0",
        "feed/5/1/1",
        "feed/5/1/2",
        "feed/5/2/0",
    ]


def test_without_a_key_the_row_itself_is_the_key() -> None:
    table = rows_table([(5, 0, "b"), (5, 0, "a"), (5, 0, "a")], keyed=False)
    name = digest(b'{"v":"a"}')
    assert {f"feed/5/{name}/0", f"feed/5/{name}/1"} < {identity for _, identity, _ in ordered([table])}


def test_structs_are_encoded() -> None:
    table = pa.table({"event_us": [1], "row": [{"n": 1, "b": b"x"}]})
    assert [data for _, _, data in ordered([table])] == [b'{"n":1,"b":"eA=="}']


def test_chunks_stay_small_even_within_one_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejeu.replay.order, "CHUNK_ROWS", 10)
    table = rows_table([(5, n, "a") for n in range(25)])
    assert [len(chunk.data) for chunk in in_order([table], "feed")] == [10, 10, 5]


def test_a_source_that_goes_back_in_time_is_refused() -> None:
    with pytest.raises(SourceError, match=r"goes back in time, to 1970-01-01T00:00:00\.000001Z after"):
        ordered([rows_table([(2, 0, "a")]), rows_table([(1, 0, "a")])])


def test_a_row_that_pubsub_would_not_take_is_named_and_nothing_from_it_on_is_given_out() -> None:
    tables = [rows_table([(1, 7, "a"), (2, 8, "b" * MAX_MESSAGE_BYTES), (3, 9, "c")])]
    chunks = in_order(tables, "feed")
    assert next(chunks).row_ids == ["feed/1/7/0"]
    with pytest.raises(RowError, match=r"row feed/2/8/0 has 10,000,008 bytes.*Pub/Sub takes 10,000,000"):
        next(chunks)
