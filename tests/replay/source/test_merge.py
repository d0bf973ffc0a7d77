"""Merging runs: no row is lost, none comes before its time, and no more is held than was said beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from rejeu.replay.source.merge import Block, Run, held_bytes, merge, overlapping_groups

Times = list[list[int]]
"""Of each block of a run."""

RUNS = st.lists(st.lists(st.lists(st.integers(-5, 40), min_size=1, max_size=5), max_size=5), max_size=5)


def run_of(times: Times, read: list[int] | None = None) -> Run:
    """A run with these times; `read` is told the first time of every block when that is read."""
    tables = [pa.table({"event_us": pa.array(each, pa.int64()), "row": [b"x"] * len(each)}) for each in times]

    def given_out(first: int) -> Iterator[pa.Table]:
        for table, each in zip(tables[first:], times[first:], strict=True):
            if read is not None:
                read.append(each[0])
            yield table

    blocks = [Block.of(table["event_us"], table.nbytes) for table in tables]
    return Run(blocks, given_out)


def times_of(tables: Iterator[pa.Table]) -> list[list[int]]:
    return [table["event_us"].to_pylist() for table in tables]


def flat(runs: Sequence[Times]) -> list[int]:
    return sorted(time for run in runs for block in run for time in block)


@given(RUNS)
@settings(max_examples=300, deadline=None)
def test_rows_come_out_by_time_whatever_order_they_are_in(runs: list[Times]) -> None:
    tables = times_of(merge([run_of(run) for run in runs]))
    assert [time for table in tables for time in sorted(table)] == flat(runs)


@given(RUNS)
@settings(max_examples=200, deadline=None)
def test_groups_follow_one_another_in_time_and_hold_all_runs(runs: list[Times]) -> None:
    groups = overlapping_groups([run_of(run) for run in runs])
    tables = [table for group in groups for table in times_of(merge(group))]
    assert [time for table in tables for time in sorted(table)] == flat(runs)


@given(RUNS, st.none() | st.integers(-5, 40), st.none() | st.integers(-5, 40))
@settings(max_examples=200, deadline=None)
def test_a_window_leaves_out_no_row_of_it(runs: list[Times], from_us: int | None, until_us: int | None) -> None:
    def inside(time: int) -> bool:
        return (from_us is None or time >= from_us) and (until_us is None or time < until_us)

    tables = times_of(merge([run_of(run).within(from_us, until_us) for run in runs]))
    assert sorted(filter(inside, (time for table in tables for time in table))) == [*filter(inside, flat(runs))]


def test_blocks_before_and_after_a_window_are_not_read() -> None:
    read: list[int] = []
    run = run_of([[1, 2], [3, 4], [5, 6], [7, 8]], read)
    assert times_of(merge([run.within(4, 7)])) == [[3, 4], [5, 6]]
    assert read == [3, 5]


def test_blocks_in_order_are_given_out_one_by_one_before_the_next_is_read() -> None:
    read: list[int] = []
    tables = merge([run_of([[5, 6], [7, 8]], read), run_of([[1, 2], [2, 3]], read)])
    assert [(table["event_us"].to_pylist(), list(read)) for table in tables] == [
        ([1, 2], [1]),
        ([2, 3], [1, 2]),
        ([5, 6], [1, 2, 5]),
        ([7, 8], [1, 2, 5, 7]),
    ]


def test_what_is_held_is_known_beforehand() -> None:
    size = run_of([[1, 2]]).blocks[0].size
    in_order = [run_of([[2 * at, 2 * at + 1] for at in range(20)])]
    interleaved = [run_of([[at, at + 1] for at in range(0, 40, 2)]) for _ in range(3)]
    backwards = [run_of([[2 * at, 2 * at + 1] for at in reversed(range(20))])]
    assert held_bytes(in_order) == size
    assert held_bytes(interleaved) <= 4 * size
    assert held_bytes(backwards) == 20 * size
    assert held_bytes([replace(run, open_bytes=1_000) for run in in_order * 3]) >= 3_000
