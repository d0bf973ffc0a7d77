"""Parquet files: read a little at a time, whatever their row groups, columns and dictionaries are."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rejeu.replay.source.parquet
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source.merge import Run, merge
from rejeu.replay.source.parquet import parquet_runs

Requests = Callable[..., ReplayRequest]


@pytest.fixture
def runs(tmp_path: Path, request_for: Requests) -> Callable[..., list[Run]]:
    """The runs of a table that is written to a file."""

    def build(table: pa.Table, row_group_size: int | None = None, **options: object) -> list[Run]:
        path = tmp_path / "a.parquet"
        pq.write_table(table, path, row_group_size=row_group_size)
        return list(parquet_runs({str(path): path.name}, request_for(file=str(path), time_unit="us", **options)))

    return build


def test_every_row_group_is_a_run_that_knows_its_times(runs: Callable[..., list[Run]]) -> None:
    found = runs(pa.table({"at": [3, 1, 2, 9, 5]}), row_group_size=3)
    assert [(run.first_us, run.last_us) for run in found] == [(1, 3), (5, 9)]


def test_a_large_row_group_is_not_held_in_memory(runs: Callable[..., list[Run]]) -> None:
    chance = random.Random(1)
    table = pa.table({"at": range(50_000), "noise": [chance.randbytes(500) for _ in range(50_000)]})
    [run] = runs(table)
    size, before, held, rows = table.nbytes, pa.total_allocated_bytes(), 0, 0
    for part in merge([run]):
        held = max(held, pa.total_allocated_bytes() - before)
        rows += part.num_rows
    assert rows == 50_000
    assert held < size / 3


def test_long_rows_behind_short_ones_are_read_few_at_a_time(runs: Callable[..., list[Run]]) -> None:
    texts = [f"{number:0{1 if number < 2_000 else 100_000}d}" for number in range(2_100)]
    table = pa.table({"at": range(2_100), "text": texts})
    [_, _, run] = runs(table, row_group_size=1_000)
    assert max(part.num_rows for part in run.tables()) <= 20


def test_a_time_within_a_record_and_a_key_that_is_a_dictionary_are_read(
    runs: Callable[..., list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejeu.replay.source.parquet, "BLOCK_BYTES", 1_000)
    words = pa.array([f"word {number % 900}" for number in range(1_000)]).dictionary_encode()
    record = pa.array([{"at": number, "x": 0} for number in range(1_000)])
    found = runs(pa.table({"record": record, "word": words}), event_time="record.at", key=("word",))
    rows = [row for table in merge(found) for row in table.to_pylist()]
    assert [(row["event_us"], row["key0"], row["row"]["record"]["at"]) for row in rows] == [
        (number, f"word {number % 900}", number) for number in range(1_000)
    ]


@pytest.mark.parametrize("table", [pa.table({"at": pa.array([], pa.int64())}), pa.table({"at": [1, 2]})[:0]])
def test_a_file_without_rows_is_read(runs: Callable[..., list[Run]], table: pa.Table) -> None:
    assert [part.num_rows for part in merge(runs(table))] == []
