"""Sources of others' own, which a spec names as `reader`: what one must do, and how its rows are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, JsonValue

from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source.options import made_of
from rejeu.replay.source.rows import arranged
from rejeu.replay.source.secrets import Secrets
from rejeu.spec.columns import Column
from rejeu.spec.sources import SOURCES


class Reader(BaseModel, ABC):
    """A source; its fields are the options that a spec gives it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def columns(self) -> Sequence[Column]:
        """What its rows have, as BigQuery has it. Raises SourceError where nobody can tell."""

    @abstractmethod
    def tables(self, from_us: int | None, until_us: int | None) -> Iterator[pa.Table]:
        """The rows, the same each time; times never go back from one table to the next, and are in any order in one.

        It may leave out what lies before `from_us`, and from `until_us` on (microseconds). Raises SourceError.
        """


def read_reader(request: ReplayRequest, from_us: int | None, until_us: int | None) -> Iterator[pa.Table]:
    """The rows of `request.reader`."""
    secrets = Secrets(request.paying_project)
    with secrets.masking():
        reader = open_reader(str(request.reader), secrets.fill_options(request.options.root))
        yield from arranged(reader.tables(from_us, until_us), request, from_us, until_us)


def reader_columns(name: str, options: Mapping[str, JsonValue], project: str) -> Sequence[Column]:
    """The columns of the reader with these options, as BigQuery has them. Raises RequestError and SourceError."""
    secrets = Secrets(project)
    with secrets.masking():
        return open_reader(name, secrets.fill_options(options)).columns()


def open_reader(name: str, options: Mapping[str, Any]) -> Reader:
    """The reader with these options. Raises RequestError for an unknown name or option, or a wrong value."""
    model: type[Reader] = SOURCES.find(name, "--reader").model
    return made_of(model, options, f"--reader {name}")
