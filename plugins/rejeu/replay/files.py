"""Rows of Parquet and newline-delimited JSON files, local or in Cloud Storage.

A line of JSON is published as it stands: only its event time and its key are read out of it.
"""

from __future__ import annotations

import glob
import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import json

from rejeu.errors import RowError, SourceError
from rejeu.replay.rows import arrange, check_columns, clip, name_columns
from rejeu.replay.spill import by_time
from rejeu.replay.times import json_time
from rejeu.request import ReplayRequest

BATCH_ROWS: Final = 2_048
INFERRED_ROWS: Final = 10_000

Reader = Callable[[str, str, ReplayRequest], Iterator[pa.Table]]
"""Reads one file: its path, the name that a person knows it by, the request."""


def read_files(request: ReplayRequest, from_us: int | None, until_us: int | None) -> Iterator[pa.Table]:
    """The rows of `request.file`, all read and checked before the first is given out.

    Raises SourceError for a missing or truncated file or a missing column, RowError for a broken line or a row
    without an event time; both name file and place.
    """
    with TemporaryDirectory(prefix="rejeu-") as folder:
        files = _find(str(request.file), Path(folder), request.project)
        read = _reader(request, files)
        if read is _read_parquet:
            _refuse_mixture(files)
        tables = (table for path, name in files.items() for table in read(path, name, request))
        yield from by_time((clip(table, from_us, until_us) for table in tables), Path(folder))


def file_schema(pattern: str, project: str | None) -> pa.Schema:
    """The columns of the first file: Parquet says them, and those of JSON are inferred from its first rows.

    Raises SourceError where there is no file, or none that can be read.
    """
    with TemporaryDirectory(prefix="rejeu-") as folder:
        path, name = next(iter(_find(pattern, Path(folder), project).items()))
        with _told(name):
            return pq.read_schema(path) if path.endswith(".parquet") else _infer_schema(path)


def _infer_schema(path: str) -> pa.Schema:
    with gzip.open(path) if path.endswith(".gz") else Path(path).open("rb") as lines:
        head = b"".join(islice(lines, INFERRED_ROWS))
    return json.read_json(pa.BufferReader(head)).schema


def _find(pattern: str, folder: Path, project: str | None) -> dict[str, str]:
    """Local path and the name that a person knows it by, in order of names; downloads what lies in Cloud Storage."""
    if pattern.startswith("gs://"):
        files = _download(pattern, folder, project)
    else:
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 -- Path.glob takes no absolute pattern
        files = {path: path for path in found if Path(path).is_file()}
    if not files:
        raise SourceError(f"no file is named {pattern}: give a path or gs:// URI of Parquet or NDJSON, * allowed")
    return files


def _download(pattern: str, folder: Path, project: str | None) -> dict[str, str]:
    from google.api_core.exceptions import GoogleAPIError

    from rejeu.gcp.clients import storage_client

    bucket, _, path = pattern.removeprefix("gs://").partition("/")
    files: dict[str, str] = {}
    try:
        for blob in storage_client(project).list_blobs(bucket, prefix=re.split(r"[*?]", path)[0]):
            if _matches(blob.name, path):
                target = folder / f"{len(files):06d}-{Path(blob.name).name}"
                blob.download_to_filename(target)
                files[str(target)] = f"gs://{bucket}/{blob.name}"
    except (GoogleAPIError, OSError) as error:
        raise SourceError(f"{pattern} cannot be read: {error}; check the bucket and its permissions") from error
    return files


def _matches(name: str, pattern: str) -> bool:
    """As the shell has it: `*` stays within a folder, `**` does not."""
    wild = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    return re.fullmatch("".join(wild.get(part) or re.escape(part) for part in parts), name) is not None


def _reader(request: ReplayRequest, files: dict[str, str]) -> Reader:
    for suffixes, read in READERS.items():
        if all(path.endswith(suffixes) for path in files):
            return read
    known = tuple(suffix for suffixes in READERS for suffix in suffixes)
    odd = next((name for name in files.values() if not name.endswith(known)), None)
    found = f"{odd} has an unknown suffix" if odd else "some files are Parquet and some are JSON"
    raise SourceError(f"--file {request.file}: {found}: give one kind, {', '.join(known)}")


def _read_parquet(path: str, name: str, request: ReplayRequest) -> Iterator[pa.Table]:
    with _told(name), pq.ParquetFile(path) as file:
        check_columns(file.schema_arrow, request)
        at = 0
        for batch in file.iter_batches(BATCH_ROWS):
            try:
                yield arrange(pa.Table.from_batches([batch]), request)
            except RowError as error:
                raise RowError(f"{name}, rows {at + 1:,} to {at + batch.num_rows:,}: {error}") from None
            at += batch.num_rows


def _refuse_mixture(files: dict[str, str]) -> None:
    schemas = {}
    for path, name in files.items():
        with _told(name):
            schemas[name] = pq.read_schema(path)
    first = next(iter(schemas))
    for name, schema in schemas.items():
        if not schema.equals(schemas[first]):
            raise SourceError(f"{name} has other columns than {first}: give files of one schema")


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What Arrow raises, as a SourceError that names the file."""
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"{name} cannot be read: {str(error).splitlines()[0]}; replace the file") from error


def _read_ndjson(path: str, name: str, request: ReplayRequest) -> Iterator[pa.Table]:
    at = 0
    rows: list[tuple[Any, ...]] = []
    first = True
    try:
        with gzip.open(path) if path.endswith(".gz") else Path(path).open("rb") as lines:
            for at, line in enumerate(lines, start=1):  # noqa: B007 -- an error says where it was
                if text := line.strip():
                    rows.append(_row(text, request))
                if len(rows) == BATCH_ROWS:
                    yield _table(rows, request, first)
                    rows, first = [], False
    except orjson.JSONDecodeError as error:
        rule = "each line must be one whole JSON object; mend or remove it"
        raise RowError(f"{name}, line {at} is broken: {error.msg}; {rule}") from None
    except RowError as error:
        raise RowError(f"{name}, line {at}: {error}; mend or remove it") from None
    except (EOFError, OSError, zlib.error) as error:
        raise SourceError(f"{name} is truncated or damaged after line {at}: {error}; replace the file") from error
    if rows:
        yield _table(rows, request, first)


def _row(text: bytes, request: ReplayRequest) -> tuple[Any, ...]:
    """Event time, the line itself, and the key's values as text."""
    record = orjson.loads(text)
    if not isinstance(record, dict):
        raise RowError(f"it holds {type(record).__name__}, not a JSON object")
    event_us = json_time(_value(record, request.event_time), request.event_time, request.time_unit)
    keys = (_value(record, name) for name in request.key)
    return event_us, text, *(None if key is None else str(key) for key in keys)


def _value(record: Any, name: str) -> Any:
    for part in name.split("."):
        record = record.get(part) if isinstance(record, dict) else None
    return record


def _table(rows: list[tuple[Any, ...]], request: ReplayRequest, first: bool) -> pa.Table:
    """Raises SourceError where no row of the first table has a key: exports leave NULLs out, so one may lack it."""
    times, texts, *keys = zip(*rows, strict=True)
    for name, values in zip(request.key, keys, strict=True):
        if first and not any(value is not None for value in values):
            known = ", ".join(sorted(orjson.loads(texts[0])))
            raise SourceError(f"--key {name} is in none of the first {len(rows):,} rows; they have {known}; name one")
    columns = [pa.array(times, pa.int64()), pa.array(texts, pa.binary()), *(pa.array(key, pa.string()) for key in keys)]
    return name_columns(columns)


READERS: Final[dict[tuple[str, ...], Reader]] = {
    (".parquet",): _read_parquet,
    (".ndjson", ".jsonl", ".json", ".ndjson.gz", ".jsonl.gz", ".json.gz"): _read_ndjson,
}
