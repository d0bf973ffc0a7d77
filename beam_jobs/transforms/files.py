"""Lines of raw files to messages, and rows to prepared files. The job decides on paths and folders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import apache_beam as beam
import msgspec
from apache_beam.io.filesystems import FileSystems

from beam_jobs.transforms.counts import Count
from beam_jobs.transforms.records import Message, Row

BLOCK_BYTES: Final = 1 << 20


class ReadLines(beam.PTransform):
    """Paths to messages, one for each line; a message's id and attributes name its file and line."""

    def expand(self, paths: beam.PCollection[str]) -> beam.PCollection[Message]:
        return paths | "spread files" >> beam.Reshuffle() | "read lines" >> beam.FlatMap(_lines)


class WriteLines(beam.PTransform):
    """Rows to `<prefix>-*.ndjson`, always at least one file, because a load job needs one."""

    def __init__(self, stream: str, prefix: str, counter: str) -> None:
        super().__init__()
        self._prefix = prefix
        self._written = Count(stream, counter)

    def expand(self, rows: beam.PCollection[Row]) -> beam.PCollection[str]:
        return (
            rows
            | "encode" >> beam.Map(self._encode)
            | "write" >> beam.io.WriteToText(self._prefix, ".ndjson", coder=beam.coders.BytesCoder())
        )

    def _encode(self, row: Row) -> bytes:
        self._written.add()
        return msgspec.json.encode(row.values)


def _lines(path: str) -> Iterator[Message]:
    for number, line in enumerate(_split(path), start=1):
        if line.strip():
            yield Message(f"{path}:{number}", line.rstrip(b"\r"), {"file": path, "line": str(number)})


def _split(path: str) -> Iterator[bytes]:
    """The file's lines, read in blocks: `readline` on a file in Cloud Storage reads byte by byte."""
    rest = b""
    with FileSystems.open(path) as file:
        while block := file.read(BLOCK_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
    yield rest
