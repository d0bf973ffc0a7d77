"""Opens the source that a request names: rows in the shape of `rows.py`; each kind has a module of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source.bigquery import read_query, read_table
from rejeu.replay.source.files import read_files
from rejeu.replay.source.generated import read_generator
from rejeu.replay.source.reader import read_reader
from rejeu.timeline import to_us


def read_rows(request: ReplayRequest, from_us: int | None) -> Iterator[pa.Table]:
    """The source's rows from `from_us` (microseconds, inclusive; None: from the first) to `request.until`."""
    until_us = None if request.until is None else to_us(request.until)
    if request.table is not None:
        return read_table(request, from_us, until_us)
    if request.query is not None:
        return read_query(request, request.query, from_us, until_us)
    if request.file is not None:
        return read_files(request, from_us, until_us)
    if request.api is not None:
        from rejeu.replay.source.api import read_api  # imports an HTTP library that no other source needs

        return read_api(request, from_us, until_us)
    if request.reader is not None:
        return read_reader(request, from_us, until_us)
    return read_generator(request, from_us, until_us)
