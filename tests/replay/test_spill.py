"""Sorting on disk: no row is lost, no table goes back in time, and tables stay small."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rejeu.replay.spill
from rejeu.replay.spill import by_time

TIMES = st.lists(st.lists(st.integers(-5, 40), min_size=1, max_size=20), max_size=8)


def table_of(times: list[int]) -> pa.Table:
    return pa.table({"event_us": pa.array(times, pa.int64()), "row": [f"{{{time}}}" for time in times]})


@given(TIMES, st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_rows_come_out_by_time_whatever_order_they_went_in(times: list[list[int]], marks: int, window: int) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        for name, value in (("RUN_BYTES", 200), ("MARK_ROWS", marks), ("WINDOW_MARKS", window)):
            patch.setattr(rejeu.replay.spill, name, value)
        tables = [table["event_us"].to_pylist() for table in by_time(map(table_of, times), Path(folder))]
    assert sorted(time for part in times for time in part) == [time for table in tables for time in sorted(table)]


def test_tables_stay_small_however_many_runs_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejeu.replay.spill, "RUN_BYTES", 1)
    tables = (table_of(list(range(start, 50_000, 5))) for start in range(5))
    sizes = [table.num_rows for table in by_time(tables, tmp_path)]
    assert sum(sizes) == 50_000
    assert len(list(tmp_path.iterdir())) == 5
    assert max(sizes) < 6_000
