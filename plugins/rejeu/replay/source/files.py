"""The files that a request names, local or in Cloud Storage, and their rows by event time; formats have own modules."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import pyarrow as pa

from rejeu.errors import SourceError
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source.merge import Run, held_bytes, merge, overlapping_groups
from rejeu.replay.source.ndjson import ndjson_rows, ndjson_runs, ndjson_schema
from rejeu.replay.source.parquet import parquet_rows, parquet_runs, parquet_schema
from rejeu.replay.source.rows import clip
from rejeu.replay.source.spill import spill

HELD_BYTES: Final = 64_000_000
"""Most bytes that merging may hold in memory; if it needs more, rows are sorted on disk."""


class Format(NamedTuple):
    """How files of one kind are read; a file has a path, and the name that a person knows it by."""

    suffixes: tuple[str, ...]
    runs: Callable[[Mapping[str, str], ReplayRequest], Iterator[Run]]
    schema: Callable[[str, str], pa.Schema]
    rows: Callable[[str, str, int], pa.Table]


FORMATS: Final = (
    Format((".parquet",), parquet_runs, parquet_schema, parquet_rows),
    Format(
        (".ndjson", ".jsonl", ".json", ".ndjson.gz", ".jsonl.gz", ".json.gz"), ndjson_runs, ndjson_schema, ndjson_rows
    ),
)


def read_files(request: ReplayRequest, from_us: int | None, until_us: int | None) -> Iterator[pa.Table]:
    """The rows of `request.file`; all event times are checked before the first row is returned.

    Raises SourceError for a missing or truncated file or a missing column, RowError for a broken line or a row
    without an event time; both name the file and the line or rows.
    """

    def clipped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        return (clip(table, from_us, until_us) for table in tables)

    with ExitStack() as closing:
        files = _find(str(request.file), request.project, closing)
        runs = _format(str(request.file), files.values()).runs(files, request)
        groups = overlapping_groups(run.within(from_us, until_us) for run in runs)
        for at, group in enumerate(groups):
            if held_bytes(group) > HELD_BYTES:
                groups[at] = spill(clipped(table for run in group for table in run.tables()), closing)
        for group in groups:
            yield from clipped(merge(group))


def file_schema(pattern: str, project: str | None) -> pa.Schema:
    """The columns of the first file: Parquet has them; for JSON they are inferred from its first rows.

    Raises SourceError where there is no file, or none that can be read.
    """
    with ExitStack() as closing:
        files = _find(pattern, project, closing, only_first=True)
        path, name = next(iter(files.items()))
        return _format(pattern, [name]).schema(path, name)


def first_rows(pattern: str, project: str | None, count: int) -> pa.Table:
    """The first rows of the first file, unchanged: times in JSON are text.

    Raises SourceError where there is no file, or none that can be read.
    """
    with ExitStack() as closing:
        files = _find(pattern, project, closing, only_first=True)
        path, name = next(iter(files.items()))
        return _format(pattern, [name]).rows(path, name, count)


def _find(pattern: str, project: str | None, closing: ExitStack, only_first: bool = False) -> dict[str, str]:
    """Each file's local path and the name that a person knows it by, in order of names; Cloud Storage is downloaded."""
    if pattern.startswith("gs://"):
        folder = closing.enter_context(TemporaryDirectory(prefix="rejeu-"))
        files = _download(pattern, Path(folder), project, only_first)
    else:
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 -- Path.glob takes no absolute pattern
        files = {path: path for path in found if Path(path).is_file()}
    if not files:
        raise SourceError(f"no file is named {pattern}: give a path or gs:// URI of Parquet or NDJSON, * allowed")
    return files


def _download(pattern: str, folder: Path, project: str | None, only_first: bool) -> dict[str, str]:
    from google.api_core.exceptions import GoogleAPIError

    from rejeu.gcp.clients import storage_client

    bucket, _, path = pattern.removeprefix("gs://").partition("/")
    files: dict[str, str] = {}
    try:
        for blob in storage_client(project).list_blobs(bucket, prefix=re.split(r"[*?]", path)[0]):
            if _matches(blob.name, path) and not (only_first and files):
                target = folder / f"{len(files):06d}-{Path(blob.name).name}"
                blob.download_to_filename(target)
                files[str(target)] = f"gs://{bucket}/{blob.name}"
    except (GoogleAPIError, OSError) as error:
        raise SourceError(f"{pattern} cannot be read: {error}; check the bucket and its permissions") from error
    return files


def _matches(name: str, pattern: str) -> bool:
    """Whether the pattern matches, as in a shell: `*` stays within a folder, `**` does not."""
    wild = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    return re.fullmatch("".join(wild.get(part) or re.escape(part) for part in parts), name) is not None


def _format(pattern: str, names: Collection[str]) -> Format:
    for each in FORMATS:
        if all(name.endswith(each.suffixes) for name in names):
            return each
    known = tuple(suffix for each in FORMATS for suffix in each.suffixes)
    odd = next((name for name in names if not name.endswith(known)), None)
    found = f"{odd} has an unknown suffix" if odd else "some files are Parquet and some are JSON"
    raise SourceError(f"--file {pattern}: {found}: give one kind, {', '.join(known)}")
