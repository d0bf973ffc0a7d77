"""Rows of Parquet files as runs, one for each row group; choosing files and merging runs is not here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from typing import IO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from rejeu.errors import RowError, SourceError, first_line, translated
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source.merge import BLOCK_BYTES, Block, Run
from rejeu.replay.source.rows import arrange, check_columns, event_column

SAMPLE_ROWS: Final = 1_000
MIN_ROW_BYTES: Final = 50
PAGE_BYTES: Final = 1_000_000
"""The usual size of a page in Parquet: one page of each column that is read is in memory."""


def parquet_runs(files: Mapping[str, str], request: ReplayRequest) -> Iterator[Run]:
    """The rows of these files (path, and the name that a person knows it by); at first only their times are read.

    Raises SourceError for a damaged file, a missing column or files of different columns, RowError for rows
    without an event time.
    """
    schemas = {name: parquet_schema(path, name) for path, name in files.items()}
    first, schema = next(iter(schemas.items()))
    for name, other in schemas.items():
        if not other.equals(schema):
            raise SourceError(f"{name} has other columns than {first}: give files of one schema")
    check_columns(schema, request)
    for path, name in files.items():
        yield from _runs(path, name, request)


def parquet_schema(file: str | IO[bytes], name: str) -> pa.Schema:
    """The file's columns, for which its end alone is read. Raises SourceError for a damaged file."""
    with _reading(name):
        return pq.read_schema(file)


def parquet_rows(file: IO[bytes], name: str, count: int) -> pa.Table:
    """The file's first rows. Raises SourceError for a damaged file."""
    with _reading(name), _open(file) as rows:
        return pa.Table.from_batches(islice(rows.iter_batches(count), 1), rows.schema_arrow)


def _runs(path: str, name: str, request: ReplayRequest) -> Iterator[Run]:
    with _reading(name), _open(path) as file:
        at, sampled = 0, _sampled_bytes(file)
        for index, group in enumerate(_groups(file)):
            written = group.total_byte_size
            # The file's size is too small where values repeat, the sample's where later rows are longer.
            row_bytes = max(sampled, written / max(group.num_rows, 1))
            rows = _rows(row_bytes)
            blocks = []
            for table in _tables(file, index, rows, [request.event_time]):
                try:
                    times = event_column(table, request)
                except RowError as error:
                    raise RowError(f"{name}, rows {at + 1:,} to {at + table.num_rows:,}: {error}") from None
                blocks.append(Block.of(times, int(table.num_rows * row_bytes)))
                at += table.num_rows
            read = partial(_read, path, name, request, file.metadata, index, rows)
            yield Run(blocks, read, min(written, 2 * PAGE_BYTES * group.num_columns))


def _groups(file: pq.ParquetFile) -> list[pq.RowGroupMetaData]:
    return [file.metadata.row_group(index) for index in range(file.num_row_groups)]


def _sampled_bytes(file: pq.ParquetFile) -> float:
    """The memory that one of the first rows takes; 0 where there are none."""
    written = sum(group.total_byte_size for group in _groups(file)) / max(file.metadata.num_rows, 1)
    sample = next(file.iter_batches(min(SAMPLE_ROWS, _rows(written))), None)
    return 0.0 if sample is None else float(sample.nbytes / sample.num_rows)


def _rows(row_bytes: float) -> int:
    """How many such rows make a block."""
    return max(1, int(BLOCK_BYTES / max(row_bytes, MIN_ROW_BYTES)))


def _read(
    path: str, name: str, request: ReplayRequest, metadata: pq.FileMetaData, group: int, rows: int, first: int
) -> Iterator[pa.Table]:
    with _reading(name), _open(path, metadata) as file:
        for number, table in enumerate(_tables(file, group, rows)):
            if number >= first:
                yield arrange(table, request)


def _open(file: str | IO[bytes], metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """A file that is read page by page; by default Arrow would hold whole row groups."""
    return pq.ParquetFile(file, metadata=metadata, buffer_size=PAGE_BYTES, pre_buffer=False)


def _tables(file: pq.ParquetFile, group: int, rows: int, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The row group in tables of so many rows; the last one may have fewer."""
    for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
        yield pa.Table.from_batches([batch])


def _reading(name: str) -> AbstractContextManager[None]:
    kinds = (OSError, pa.ArrowException)
    return translated(SourceError, f"{name} cannot be read", (kinds, "replace the file"), why=first_line)
