"""The files that a request names, local or in Cloud Storage, and their rows by event time; formats have own modules."""

from __future__ import annotations

import glob
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Final, NamedTuple, cast

import pyarrow as pa

from rejeu.errors import SourceError
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source.merge import Run, held_bytes, merge, overlapping_groups
from rejeu.replay.source.ndjson import ndjson_rows, ndjson_runs, ndjson_schema, open_file
from rejeu.replay.source.parquet import parquet_rows, parquet_runs, parquet_schema
from rejeu.replay.source.rows import clip
from rejeu.replay.source.spill import spill

if TYPE_CHECKING:
    from google.cloud.storage import Blob

HELD_BYTES: Final = 64_000_000
"""Most bytes that merging may hold in memory; if it needs more, rows are sorted on disk."""
FETCHED_BYTES: Final = 256 * 1024
"""How much of an object is fetched at least where only a part of it is read."""


class Format(NamedTuple):
    """How files of one kind are read; a file has a path, or is open, and has the name that a person knows it by."""

    suffixes: tuple[str, ...]
    runs: Callable[[Mapping[str, str], ReplayRequest], Iterator[Run]]
    schema: Callable[[IO[bytes], str], pa.Schema]
    rows: Callable[[IO[bytes], str, int], pa.Table]


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
    with _first_file(pattern, project) as (file, name):
        return _format(pattern, [name]).schema(file, name)


def first_rows(pattern: str, project: str | None, count: int) -> pa.Table:
    """The first rows of the first file, unchanged: times in JSON are text.

    Raises SourceError where there is no file, or none that can be read.
    """
    with _first_file(pattern, project) as (file, name):
        return _format(pattern, [name]).rows(file, name, count)


@contextmanager
def _first_file(pattern: str, project: str | None) -> Iterator[tuple[IO[bytes], str]]:
    """The first file, open, and its name; of one in Cloud Storage only those parts are fetched that are read."""
    if not pattern.startswith("gs://"):
        name = _local(pattern)[0]
        with open_file(name, name) as local:
            yield local, name
        return
    with _asking(pattern):
        blob = next(_blobs(pattern, project), None)
        if blob is None:
            raise _nothing(pattern)
        with io.BufferedReader(blob.open("rb", chunk_size=FETCHED_BYTES), FETCHED_BYTES) as fetched:
            yield cast("IO[bytes]", fetched), f"gs://{blob.bucket.name}/{blob.name}"


def _find(pattern: str, project: str | None, closing: ExitStack) -> dict[str, str]:
    """Each file's local path and the name that a person knows it by, in order of names; Cloud Storage is downloaded."""
    if not pattern.startswith("gs://"):
        return {path: path for path in _local(pattern)}
    folder = Path(closing.enter_context(TemporaryDirectory(prefix="rejeu-")))
    files: dict[str, str] = {}
    with _asking(pattern):
        for blob in _blobs(pattern, project):
            target = folder / f"{len(files):06d}-{Path(blob.name).name}"
            blob.download_to_filename(target)
            files[str(target)] = f"gs://{blob.bucket.name}/{blob.name}"
    if not files:
        raise _nothing(pattern)
    return files


def _local(pattern: str) -> list[str]:
    """The paths of files of this machine, of which there is one at least."""
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 -- Path.glob takes no absolute pattern
    files = [path for path in found if Path(path).is_file()]
    if not files:
        raise _nothing(pattern)
    return files


def _blobs(pattern: str, project: str | None) -> Iterator[Blob]:
    """The objects that match, in order of names; the list is asked for as far as it is read."""
    from rejeu.gcp.clients import storage_client

    bucket, _, path = pattern.removeprefix("gs://").partition("/")
    listed = storage_client(project).list_blobs(bucket, prefix=re.split(r"[*?]", path)[0])
    return (blob for blob in listed if _matches(blob.name, path))


def _nothing(pattern: str) -> SourceError:
    return SourceError(f"no file is named {pattern}: give a path or gs:// URI of Parquet or NDJSON, * allowed")


@contextmanager
def _asking(pattern: str) -> Iterator[None]:
    from google.api_core.exceptions import GoogleAPIError

    try:
        yield
    except (GoogleAPIError, OSError) as error:
        raise SourceError(f"{pattern} cannot be read: {error}; check the bucket and its permissions") from error


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
