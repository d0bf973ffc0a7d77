"""Sorting on disk: no row is lost, what is in memory stays small, and a full disk is told."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rejeu.replay.source.spill
from rejeu.errors import SourceError
from rejeu.replay.source.merge import merge
from rejeu.replay.source.spill import spill

TIMES = st.lists(st.lists(st.integers(-5, 40), min_size=1, max_size=20), max_size=8)


def table_of(times: list[int]) -> pa.Table:
    rows = pa.array([{"n": time, "text": f"{time:0100d}"} for time in times])
    return pa.table({"event_us": pa.array(times, pa.int64()), "row": rows})


@given(TIMES, st.integers(1, 500), st.integers(1, 3_000))
@settings(max_examples=200, deadline=None)
def test_rows_come_out_by_time_whatever_order_they_went_in(
    times: list[list[int]], block_bytes: int, run_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, ExitStack() as files:
        patch.setattr(rejeu.replay.source.spill, "RUN_BLOCK_BYTES", block_bytes)
        patch.setattr(rejeu.replay.source.spill, "RUN_BYTES", run_bytes)
        tables = [table.to_pylist() for table in merge(spill(map(table_of, times), files))]
    rows = [row for table in tables for row in sorted(table, key=lambda row: row["event_us"])]
    expected = sorted(time for part in times for time in part)
    assert rows == [{"event_us": time, "row": {"n": time, "text": f"{time:0100d}"}} for time in expected]


def test_memory_does_not_grow_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejeu.replay.source.spill, "RUN_BYTES", 300_000)
    monkeypatch.setattr(rejeu.replay.source.spill, "RUN_BLOCK_BYTES", 10_000)
    before, chance, held = pa.total_allocated_bytes(), random.Random(1), 0

    def tables() -> Iterator[pa.Table]:
        nonlocal held
        for _ in range(60):
            yield table_of([chance.randrange(10**9) for _ in range(1_000)])
            held = max(held, pa.total_allocated_bytes() - before)

    with ExitStack() as files:
        rows = 0
        for table in merge(spill(tables(), files)):
            rows += table.num_rows
            held = max(held, pa.total_allocated_bytes() - before)
    assert rows == 60_000
    assert held < 60_000 * 120 / 3


@pytest.mark.parametrize("rows", [3, 1_000])
def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    full = Path("/dev/full").open("wb")  # noqa: SIM115 -- spill closes it
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
    with ExitStack() as files, pytest.raises(SourceError, match=r"rows cannot be sorted in .*No space left.*TMPDIR"):
        spill([table_of(list(range(rows)))], files)
