"""Sorts more rows than fit into memory: sorted runs on disk, then windows of time across all of them.

DuckDB is not used for it: with half a gigabyte of memory it gives up on two gigabytes of long rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from rejeu.replay.rows import EVENT_US

RUN_BYTES: Final = 64_000_000
MARK_ROWS: Final = 256
WINDOW_MARKS: Final = 16


def by_time(tables: Iterable[pa.Table], folder: Path) -> Iterator[pa.Table]:
    """The same rows in tables of some thousand each, whose times never go back from one to the next.

    Rows are in the shape of `rejeu.replay.rows`; all are on disk before the first is given out.
    """
    paths = [_write(run, folder / f"run-{number:06d}.arrow") for number, run in enumerate(_runs(tables))]
    runs = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
    times = [run[EVENT_US].chunk(0).to_numpy() for run in runs]
    if not times:
        return
    # Every 256th time of every run: between two of these marks, a run has few rows, and so have all of them.
    marks = np.sort(np.concatenate([each[::MARK_ROWS] for each in times]))
    for start, end in pairwise([*np.unique(marks[::WINDOW_MARKS]), None]):
        parts = []
        for run, each in zip(runs, times, strict=True):
            first = int(np.searchsorted(each, start))
            last = len(each) if end is None else int(np.searchsorted(each, end))
            parts.append(run.slice(first, last - first))
        yield pa.concat_tables(parts)


def _runs(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    size = 0
    for table in tables:
        if table.num_rows:
            held.append(table)
            size += table.nbytes
        if size >= RUN_BYTES:
            yield pa.concat_tables(held)
            held, size = [], 0
    if held:
        yield pa.concat_tables(held)


def _write(run: pa.Table, path: Path) -> Path:
    """As one batch, so that its times are one array when the file is mapped into memory."""
    [batch] = run.sort_by(EVENT_US).combine_chunks().to_batches()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    return path
