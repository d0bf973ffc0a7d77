"""Sorts rows that do not fit into memory: writes sorted runs to disk, for `merge`.

DuckDB could not: with half a gigabyte of memory it gives up on two gigabytes of long rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import islice
from typing import IO, Final

import pyarrow as pa

from rejeu.errors import SourceError
from rejeu.replay.source.merge import BLOCK_BYTES, Block, Run
from rejeu.replay.source.rows import EVENT_US

RUN_BYTES: Final = 64_000_000
RUN_BLOCK_BYTES: Final = BLOCK_BYTES // 4
"""Small, because one block of every run is in memory at a time."""


def spill(tables: Iterable[pa.Table], files: ExitStack) -> list[Run]:
    """The same rows on disk, as runs sorted by time; closing `files` removes what is written.

    Raises SourceError where the disk is full.
    """
    try:
        return [_write(rows, files.enter_context(_nameless_file())) for rows in _runs(tables)]
    except OSError as error:
        where = f"rows cannot be sorted in {tempfile.gettempdir()}: {error}"
        raise SourceError(f"{where}; make space there, or name another folder in TMPDIR") from error


@contextmanager
def _nameless_file() -> Iterator[IO[bytes]]:
    """A file without a name in any folder, so that a killed replay leaves nothing behind."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 -- closed below
    try:
        yield file
    finally:
        with suppress(OSError):  # closing writes once more what a full disk did not take
            file.close()


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


def _write(rows: pa.Table, file: IO[bytes]) -> Run:
    ordered = rows.sort_by(EVENT_US).combine_chunks()
    block_rows = max(1, ordered.num_rows * RUN_BLOCK_BYTES // ordered.nbytes)
    blocks = []
    with pa.ipc.new_stream(file, ordered.schema) as writer:
        for batch in ordered.to_batches(block_rows):
            writer.write_batch(batch)
            blocks.append(Block.of(batch[EVENT_US], batch.nbytes))
    file.flush()
    return Run(blocks, partial(_read, file))


def _read(file: IO[bytes], first: int) -> Iterator[pa.Table]:
    # Not mapped into memory: pages of a mapped file count as this process's memory while there is room.
    file.seek(0)
    with pa.ipc.open_stream(file) as reader:
        for batch in islice(reader, first, None):
            yield pa.Table.from_batches([batch])
