"""Rows of newline-delimited JSON files as runs, one for each file; a line is published unchanged.

msgspec reads only event time and key from a line; of the rest it checks only that it is JSON.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from operator import attrgetter
from typing import IO, Any, Final, cast

import msgspec
import pyarrow as pa
from pyarrow import json

from rejeu.errors import RowError, SourceError
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source.merge import BLOCK_BYTES, Block, Run
from rejeu.replay.source.rows import name_columns
from rejeu.replay.source.times import event_times, json_times

TEXT: Final = pa.string()
INSTANT: Final = pa.timestamp("us", "UTC")
BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Raised by a line that is no JSON object."""
DAMAGED: Final = (EOFError, OSError, zlib.error)
"""Raised by a file that cannot be read to its end."""
INFERRED_ROWS: Final = 10_000
INFERRED_BYTES: Final = 4_000_000
"""Columns are inferred from so many rows, or bytes, whichever comes first."""
ROW_BYTES: Final = 30
"""The memory that a row takes besides its line: its time, its key, offsets."""


def ndjson_runs(files: Mapping[str, str], request: ReplayRequest) -> Iterator[Run]:
    """The rows of these files (path, and the name that a person knows it by); each line is read once to check it.

    Raises SourceError for a truncated file or a missing key, RowError for a broken line or one without an event time.
    """
    fields = Fields(request)
    for path, name in files.items():
        lines = _Lines(path, name, fields)
        yield Run(lines.scan(), lines.read)


def ndjson_schema(file: IO[bytes], name: str) -> pa.Schema:
    """The columns of the file's first rows. Raises SourceError where these are not JSON."""
    try:
        lines = pa.BufferReader(b"".join(islice(_until(INFERRED_BYTES, _plain(file, name)), INFERRED_ROWS)))
        inferred = json.read_json(lines).schema
        texts = pa.schema([(field.name, TEXT) for field in inferred if _may_be_text(field.type)])
        lines.seek(0)
        return _with_instants(inferred, json.read_json(lines, parse_options=json.ParseOptions(explicit_schema=texts)))
    except (*DAMAGED, pa.ArrowInvalid) as error:
        raise SourceError(f"{name} cannot be read: {error}; replace the file") from error


def _may_be_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_timestamp(kind))


def _with_instants(inferred: pa.Schema, rows: pa.Table) -> pa.Schema:
    """The schema with all instants: Arrow drops the zone of whole seconds, and takes those with fractions for text."""
    for index, field in enumerate(inferred):
        if _may_be_text(field.type) and len(texts := rows[field.name].drop_null()):
            with suppress(RowError):
                event_times(texts, field.name, None)
                inferred = inferred.set(index, pa.field(field.name, INSTANT))
    return inferred


def _until(most: int, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines, with the one in which so many bytes are reached as the last."""
    size = 0
    for line in lines:
        yield line
        size += len(line)
        if size >= most:
            return


def ndjson_rows(file: IO[bytes], name: str, count: int) -> pa.Table:
    """The file's first rows; a column that mixes types is text. Raises SourceError where these are not JSON."""
    decoder = msgspec.json.Decoder(dict[str, Any])
    try:
        lines = filter(bytes.strip, _plain(file, name))
        records = [decoder.decode(line) for line in islice(lines, count)]
    except (*DAMAGED, *BROKEN) as error:
        raise SourceError(f"{name} cannot be read: {error}; replace the file") from error
    columns = dict.fromkeys(column for record in records for column in record)
    return pa.table({column: _column([record.get(column) for record in records]) for column in columns})


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([value if value is None else str(value) for value in values], TEXT)


class Fields:
    """Event time and key of many lines at once."""

    def __init__(self, request: ReplayRequest) -> None:
        self._request = request
        names = dict.fromkeys(name.partition(".")[0] for name in (request.event_time, *request.key))
        self._attributes = {name: f"field{index}" for index, name in enumerate(names)}
        fields = [(attribute, Any, None) for attribute in self._attributes.values()]
        rename = {attribute: name for name, attribute in self._attributes.items()}
        self._decoder = msgspec.json.Decoder(msgspec.defstruct("Line", fields, rename=rename, gc=False))

    def records(self, lines: Sequence[bytes]) -> list[Any]:
        """The lines' fields, for the other methods. Raises msgspec's errors for what is no JSON object."""
        return [*map(self._decoder.decode, lines)]

    def times(self, records: Sequence[Any]) -> pa.ChunkedArray:
        """The rows' event times. Raises RowError for a row without a readable time."""
        request = self._request
        return json_times(self._values(records, request.event_time), request.event_time, request.time_unit)

    def keys(self, records: Sequence[Any]) -> list[pa.Array]:
        """Each column of the key, as text."""
        columns = (self._values(records, name) for name in self._request.key)
        return [pa.array([value if value is None else str(value) for value in values], TEXT) for values in columns]

    def check_keys(self, records: Sequence[Any], line: bytes) -> None:
        """Raises SourceError where no row at all has a key. Single rows may have none, because exports omit NULLs."""
        for name in self._request.key:
            if all(value is None for value in self._values(records, name)):
                known = ", ".join(sorted(msgspec.json.decode(line, type=dict[str, msgspec.Raw])))
                found = f"--key {name} is in none of the first {len(records):,} rows"
                raise SourceError(f"{found}; they have {known}; name one")

    def _values(self, records: Sequence[Any], name: str) -> list[Any]:
        first, *rest = name.split(".")
        values = [*map(attrgetter(self._attributes[first]), records)]
        for part in rest:
            values = [value.get(part) if isinstance(value, dict) else None for value in values]
        return values


class _Lines:
    """One file in blocks of whole lines, which are checked first and read later."""

    def __init__(self, path: str, name: str, fields: Fields) -> None:
        self._path, self._name, self._fields = path, name, fields
        self._places: list[tuple[int, int, int]] = []
        """Each block's first byte, its size in bytes, and the number of its first line."""

    def scan(self) -> list[Block]:
        """All blocks. Raises SourceError and RowError, which name the file and the line."""
        blocks: list[Block] = []
        at, number = 0, 1
        with _open(self._path, self._name) as file:
            while data := self._take(file, BLOCK_BYTES, number):
                if lines := _split(data):
                    records, times = self._parse(data, lines, number)
                    if not blocks:
                        self._fields.check_keys(records, lines[0])
                    blocks.append(Block.of(times, len(data) + ROW_BYTES * len(lines)))
                    self._places.append((at, len(data), number))
                at += len(data)
                number += data.count(b"\n")
        return blocks

    def read(self, first: int) -> Iterator[pa.Table]:
        """A table for each block from this one on."""
        with _open(self._path, self._name) as file:
            for at, size, number in self._places[first:]:
                file.seek(at)
                data = self._take(file, size - 1, number)
                if len(data) < size:
                    raise SourceError(f"{self._name} lost lines while it was read: it must not change; start again")
                lines = _split(data)
                records, times = self._parse(data, lines, number)
                yield name_columns([times, pa.array(lines, pa.binary()), *self._fields.keys(records)])

    def _take(self, file: IO[bytes], size: int, number: int) -> bytes:
        """So many bytes, and the rest of the last line."""
        try:
            return file.read(size) + file.readline()
        except DAMAGED as error:
            place = f"{self._name} is truncated or damaged after line {number - 1}"
            raise SourceError(f"{place}: {error}; replace the file") from error

    def _parse(self, data: bytes, lines: Sequence[bytes], number: int) -> tuple[list[Any], pa.ChunkedArray]:
        """The lines' records and their times. Raises RowError, which names the line."""
        try:
            data.decode()  # msgspec does not check the text that it skips
            records = self._fields.records(lines)
            return records, self._fields.times(records)
        except (*BROKEN, RowError):
            self._blame(data, number)
            raise

    def _blame(self, data: bytes, number: int) -> None:
        """Raises RowError for the first line that cannot be a row."""
        for at, text in enumerate(data.split(b"\n"), start=number):
            try:
                text.decode()
                if lines := _split(text):
                    self._fields.times(self._fields.records(lines))
            except RowError as error:
                raise RowError(f"{self._name}, line {at}: {error}; mend or remove it") from None
            except BROKEN as error:
                rule = "each line must be one whole JSON object; mend or remove it"
                raise RowError(f"{self._name}, line {at} is broken: {error}; {rule}") from None


def _split(data: bytes) -> list[bytes]:
    """The lines that are not blank."""
    return [*filter(None, map(bytes.strip, data.split(b"\n")))]


def _plain(file: IO[bytes], name: str) -> IO[bytes]:
    """The open file's text, which may be compressed there."""
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if name.endswith(".gz") else file


def _open(path: str, name: str) -> IO[bytes]:
    return open_file(path, name, gzip.open if path.endswith(".gz") else open)


def open_file(path: str, name: str, opened: Callable[[str, str], Any] = open) -> IO[bytes]:
    """The file, as it lies there. Raises SourceError where it cannot be opened."""
    try:
        return cast("IO[bytes]", opened(path, "rb"))
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error}; check the path and its permissions") from error
