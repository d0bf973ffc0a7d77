"""The YAML of a new spec, and its way to the streams folder: whole and valid, or not at all."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import yaml

from rejeu.errors import RequestError, SourceError, SpecError, told, translated
from rejeu.message import ROW_ID
from rejeu.new.guess import EventTime, Key
from rejeu.spec.columns import Column
from rejeu.spec.files import load_specs, read_spec
from rejeu.spec.names import STREAM_NAME
from rejeu.spec.pipelines import PIPELINES, Pipeline
from rejeu.spec.types import TABLE, check_file_path

DATASET: Final = "streams"
"""Where new streams write until somebody says otherwise."""
COLUMN_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,299}"
TAKEN: Final = ("_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier")
"""How no column of BigQuery begins (https://cloud.google.com/bigquery/docs/schemas#column_names)."""


@dataclass(frozen=True)
class Wish:
    """What the command line says: the stream's name and pipeline, and exactly one source."""

    name: str
    pipeline: str
    topic: str | None = None
    table: str | None = None
    file: str | None = None

    def check(self) -> None:
        """Raises RequestError for a name or a pipeline that cannot be."""
        if re.fullmatch(STREAM_NAME, self.name) is None:
            rule = "it must be 3 to 63 small letters, digits and underscores, a letter first"
            raise RequestError(f"NAME is {told(self.name)}: {rule}, such as bike_stations")
        PIPELINES.find(self.pipeline, "--pipeline")
        if self.table is not None and re.fullmatch(TABLE, self.table) is None:
            raise RequestError(f"--table is {told(self.table)}: write dataset.table or project.dataset.table")
        if self.file is not None:
            with translated(RequestError, "--file", (ValueError, "rename it")):
                check_file_path(self.file)
        if self.table in (self.live_table, f"{self.live_table}_live"):
            raise RequestError(f"--table is {self.table}: the stream itself writes it; give the stream another name")

    def check_columns(self, columns: Sequence[Column]) -> None:
        """Raises SourceError where the pipeline writes the source's columns, and no table beside the row id's can."""
        if PIPELINES[self.pipeline].columns is not None:
            return
        seen: set[str] = set()
        for name in (column.name for column in columns):
            if (fault := _fault(name, seen)) is not None:
                raise SourceError(f"column {name!r}: {fault}; rename it in the file, or in a view")
            seen.add(name.lower())

    @property
    def live_table(self) -> str:
        return f"{DATASET}.{self.name}"


def _fault(name: str, others: Collection[str]) -> str | None:
    """What keeps a column of this name out of a streaming table."""
    if name.lower() == ROW_ID:
        return "Rejeu's own column of that name stands beside it"
    if re.fullmatch(COLUMN_NAME, name) is None:
        return "a column is letters, digits and underscores, 300 at most, no digit first"
    if name.lower().startswith(TAKEN):
        return "BigQuery keeps names that begin so for itself"
    if name.lower() in others:
        return "another column differs in its case alone, which BigQuery does not see"
    return None


def spec_text(wish: Wish, time: EventTime, key: Key) -> str:
    """The spec as YAML, with the reasons for what was guessed."""
    return "".join(f"{line}\n" for line in _lines(wish, time, key))


def _lines(wish: Wish, time: EventTime, key: Key) -> Iterator[str]:
    pipeline = PIPELINES[wish.pipeline]
    guessed_time = f"{_scalar(time.name)}  # {'; '.join(time.reasons)}"
    guessed_key = f"[{', '.join(map(_scalar, key.names))}]  # {key.reason}"
    yield "# yaml-language-server: $schema=stream.schema.json"
    yield "# Begun by `rejeu new`: what it guessed has its reason beside it. Read it through, then make it yours."
    yield f"stream: {_scalar(wish.name)}"
    yield f"description: {_scalar(f'Rows of {wish.table or wish.file}, replayed as if they were live.')}"
    if pipeline.columns is None:
        yield f"event_time: {guessed_time}"
        yield f"key: {guessed_key}"
    else:
        yield f"event_time: {_written_time(pipeline)}  # of the rows that the pipeline writes"
        if pipeline.windows:
            yield f"key: [{', '.join((*pipeline.windows.key, pipeline.windows.start))}]"
    yield "live:"
    yield f"  topic: {_scalar(wish.topic or _topic(wish.name))}"
    yield f"  pipeline: {wish.pipeline}"
    yield f"  table: {wish.live_table}"
    yield "replay:"
    yield "  source:"
    yield f"    table: {_scalar(wish.table)}" if wish.table else f"    files: {_scalar(_pattern(wish.file or ''))}"
    if pipeline.columns is not None:
        yield f"    time: {guessed_time}"
        yield f"    key: {guessed_key}"
    if time.unit:
        yield f"    time_unit: {time.unit}"
    yield "  speed: 1  # event seconds per second, or max"


def _written_time(pipeline: Pipeline) -> str:
    if pipeline.windows:
        return pipeline.windows.start
    return next(column.name for column in pipeline.columns or () if column.type == "TIMESTAMP")


def _topic(name: str) -> str:
    """Pub/Sub keeps names that begin with goog for itself."""
    topic = name.replace("_", "-")
    return f"stream-{topic}" if topic.startswith("goog") else topic


def _pattern(path: str) -> str:
    """The path as a spec has it, in which braces name what the target fills in; a local one holds anywhere here."""
    whole = path if path.startswith("gs://") else str(Path(path).absolute())
    return whole.replace("{", "{{").replace("}", "}}").replace("{{bucket}}", "{bucket}")


def _scalar(text: str) -> str:
    """The text as one YAML value of one line, quoted where it must be."""
    style = None if text.isprintable() else '"'
    value: str = yaml.safe_dump(text, default_style=style, width=sys.maxsize, allow_unicode=True)
    return value.removesuffix("\n").removesuffix("\n...")


def write_spec(folder: Path, name: str, text: str) -> Path:
    """Write `<folder>/<name>.yaml`, once it loads.

    Raises SpecError where it does not, RequestError where the file or a stream of that name is there already.
    """
    file = folder / f"{name}.yaml"
    owner = next((each.file for each in load_specs([folder]) if each.name == name), None)
    if owner is not None or file.exists():
        raise RequestError(f"{owner or file} is there already: remove it, or name the stream otherwise")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".new-", dir=folder) as place:
        draft = Path(place) / file.name
        draft.write_text(text, encoding="utf-8")
        try:
            read_spec(draft)
        except SpecError as error:
            raise SpecError(str(file), error.field, error.reason, error.remedy) from None
        # A link is made whole or not at all, and never over a file that came meanwhile.
        os.link(draft, file)
    return file
