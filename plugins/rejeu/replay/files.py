"""Rows of Parquet and newline-delimited JSON files, local or in Cloud Storage, sorted by DuckDB on disk.

A line of JSON is published as it stands: only its event time and its key are read out of it.
"""

from __future__ import annotations

import glob
import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import orjson
import pyarrow as pa

from rejeu.errors import RowError, SourceError
from rejeu.message import MAX_MESSAGE_BYTES
from rejeu.replay.rows import EVENT_US, ROW, check_columns, key_columns, key_names
from rejeu.replay.times import MICROSECONDS, RULE, unit_factor
from rejeu.request import ReplayRequest

if TYPE_CHECKING:
    import duckdb

PARQUET: Final = (".parquet",)
NDJSON: Final = (".ndjson", ".jsonl", ".json", ".ndjson.gz", ".jsonl.gz", ".json.gz")
BATCH_ROWS: Final = 2_048
"""DuckDB's own vector: more would be held together for nothing."""
MEMORY: Final = "512MB"
NO_START: Final = -(2**63)
INTEGERS: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
TEXT_WITH_ZONE: Final = r"(Z|UTC|[+-]\d\d:?\d\d)$"


def read_files(request: ReplayRequest, from_us: int | None, until_us: int | None) -> Iterator[pa.Table]:
    """The rows of `request.file`, all read and checked before the first is given out.

    Raises SourceError for a missing or truncated file or a missing column, RowError for a broken line or a row
    without an event time; both name file and line.
    """
    import duckdb

    with TemporaryDirectory(prefix="rejeu-") as folder:
        files = _find(request, Path(folder))
        with duckdb.connect() as database:
            database.execute(f"SET TimeZone = 'UTC'; SET memory_limit = '{MEMORY}'; SET temp_directory = '{folder}'")
            reader = _open(database, files, request)
            try:
                yield from reader.rows(from_us, until_us)
            except duckdb.Error as error:
                raise reader.broken(error) from error


def _find(request: ReplayRequest, folder: Path) -> dict[str, str]:
    """Local path and the name that a person knows it by, in order of names; downloads what lies in Cloud Storage."""
    pattern = str(request.file)
    if pattern.startswith("gs://"):
        files = _download(pattern, folder, request.project)
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


def _open(database: duckdb.DuckDBPyConnection, files: dict[str, str], request: ReplayRequest) -> _Files:
    for suffixes, kind in ((PARQUET, _Parquet), (NDJSON, _Ndjson)):
        if all(path.endswith(suffixes) for path in files):
            return kind(database, files, request)
    odd = next((name for name in files.values() if not name.endswith(PARQUET + NDJSON)), None)
    found = f"{odd} has an unknown suffix" if odd else "some files are Parquet and some are JSON"
    raise SourceError(f"--file {request.file}: {found}: give one kind, {', '.join(PARQUET + NDJSON)}")


@dataclass
class _Files:
    """Files of one kind as one relation of DuckDB: event time in microseconds, row, key."""

    database: duckdb.DuckDBPyConnection
    files: dict[str, str]
    request: ReplayRequest

    def rows(self, from_us: int | None, until_us: int | None) -> Iterator[pa.Table]:
        """By event time. Rows without one come first: the sort has seen every row by then, and none is out yet."""
        window = f"{EVENT_US} >= {NO_START if from_us is None else from_us}"
        window += "" if until_us is None else f" AND {EVENT_US} < {until_us}"
        query = f"SELECT * FROM ({self.select()}) WHERE {EVENT_US} IS NULL OR {window} ORDER BY {EVENT_US} NULLS FIRST"
        for number, batch in enumerate(self.database.execute(query, [list(self.files)]).to_arrow_reader(BATCH_ROWS)):
            rows = pa.Table.from_batches([batch])
            if rows[EVENT_US].null_count:
                raise self.lacking_time()
            if number == 0:
                self.check(rows)
            yield rows

    def select(self) -> str:
        """SQL for the relation; one parameter, the paths."""
        raise NotImplementedError

    def check(self, rows: pa.Table) -> None:
        """Look at the first rows before they are given out."""

    def lacking_time(self) -> RowError:
        """The error that names a row without a readable event time."""
        raise NotImplementedError

    def broken(self, error: duckdb.Error) -> SourceError:
        """What DuckDB met, as an error that names the place."""
        reason = str(error).splitlines()[0]
        for path, name in self.files.items():
            reason = reason.replace(path, name)
        return SourceError(f"--file {self.request.file} cannot be read: {reason}; mend or replace the file")


class _Parquet(_Files):
    def select(self) -> str:
        self.check_schema()
        source = "read_parquet(?) AS source_row"
        keys = _keys([_path(name) for name in self.request.key])
        return f"SELECT {self._micros()} AS {EVENT_US}, source_row AS {ROW}{keys} FROM {source}"

    def check_schema(self) -> None:
        schema = self.database.execute("FROM read_parquet(?) LIMIT 0", [list(self.files)]).to_arrow_table().schema
        check_columns(schema, self.request)
        for path, name in self.files.items():
            _refuse_wide_decimals(path, name)

    def lacking_time(self) -> RowError:
        query = f"""
            SELECT source_file, file_row_number + 1
            FROM read_parquet(?, filename = 'source_file', file_row_number = true)
            WHERE ({self._micros()}) IS NULL ORDER BY ALL LIMIT 1"""
        [(path, number)] = self.database.execute(query, [list(self.files)]).fetchall()
        return _no_time(f"{self.files[path]}, row {number}", self.request.event_time, "null or unreadable")

    def _micros(self) -> str:
        time = _path(self.request.event_time)
        query = f"DESCRIBE SELECT {time} FROM read_parquet(?)"
        [(_, kind, *_)] = self.database.execute(query, [list(self.files)]).fetchall()
        if kind.startswith(("TIMESTAMP", "DATE")):
            return f"epoch_us({time})"
        if kind in INTEGERS:
            return f"{time}::BIGINT * {unit_factor(self.request.time_unit, self.request.event_time)}"
        if kind == "VARCHAR":
            return _text_micros(time)
        raise SourceError(f"{self.request.event_time} is {kind}: {RULE}; convert it when the file is written")


class _Ndjson(_Files):
    def select(self) -> str:
        keys = _keys([f"json_extract_string(json, {_json_path(name)})" for name in self.request.key])
        return f"SELECT {self._micros()} AS {EVENT_US}, json::VARCHAR AS {ROW}{keys} FROM {self._lines()}"

    def check(self, rows: pa.Table) -> None:
        for name, column in zip(self.request.key, key_columns(rows), strict=True):
            if rows[column].null_count == rows.num_rows:
                known = ", ".join(sorted(orjson.loads(rows[ROW][0].as_py())))
                raise SourceError(f"--key {name} is in none of the first {rows.num_rows:,} rows; they have {known}")

    def lacking_time(self) -> RowError:
        query = f"SELECT filename, json FROM {self._lines()} WHERE ({self._micros()}) IS NULL LIMIT 1"
        [(path, text)] = self.database.execute(query, [list(self.files)]).fetchall()
        number = next(number for number, line in _numbered(path) if line.decode() == text)
        value: object = orjson.loads(text)
        for part in self.request.event_time.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return _no_time(f"{self.files[path]}, line {number}", self.request.event_time, repr(value))

    def broken(self, error: duckdb.Error) -> SourceError:
        """DuckDB's own line numbers are of its buffers, so the place is looked for again."""
        faults = (_fault(path, name) for path, name in self.files.items())
        return next(filter(None, faults), None) or super().broken(error)

    def _lines(self) -> str:
        return f"read_ndjson_objects(?, filename = true, maximum_object_size = {2 * MAX_MESSAGE_BYTES})"

    def _micros(self) -> str:
        text = f"json_extract_string(json, {_json_path(self.request.event_time)})"
        if self.request.time_unit is None:
            return _text_micros(text)
        return f"TRY_CAST({text} AS BIGINT) * {MICROSECONDS[self.request.time_unit]}"


def _numbered(path: str) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers."""
    with gzip.open(path) if path.endswith(".gz") else Path(path).open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line.strip()


def _fault(path: str, name: str) -> SourceError | None:
    """What is wrong with the file's first bad line."""
    at = 0
    try:
        for number, line in _numbered(path):
            at = number
            orjson.loads(line)
    except orjson.JSONDecodeError as fault:
        rule = "each line must be one whole JSON object; mend or remove it"
        return RowError(f"{name}, line {at} is broken: {fault.msg}; {rule}")
    except (EOFError, OSError) as fault:
        return SourceError(f"{name} is truncated after line {at}: {fault}; replace the file")
    return None


def _no_time(where: str, name: str, value: str) -> RowError:
    return RowError(f"{where}: {name} is {value}: {RULE}; mend or remove the row")


def _keys(expressions: Sequence[str]) -> str:
    names = key_names(len(expressions))
    return "".join(f", {each} AS {name}" for each, name in zip(expressions, names, strict=True))


def _path(name: str) -> str:
    return ".".join(f'"{part}"' for part in name.split("."))


def _json_path(name: str) -> str:
    return "'$" + "".join(f'."{part}"' for part in name.split(".")) + "'"


def _text_micros(text: str) -> str:
    return f"CASE WHEN regexp_matches({text}, '{TEXT_WITH_ZONE}') THEN epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)) END"


def _refuse_wide_decimals(path: str, name: str) -> None:
    """DuckDB reads decimals of more than 38 digits as floats, in silence."""
    import pyarrow.parquet as pq

    for field in pq.read_schema(path):
        if "decimal256" in str(field.type):
            rule = "a decimal in a file may have 38 digits"
            raise SourceError(f"{name}: column {field.name} is {field.type}: {rule}; replay the table itself")
