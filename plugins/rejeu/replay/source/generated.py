"""Reads simulators: sources that make their rows up, the same rows for the same options; each has its own module."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source.generators.base import Generator
from rejeu.replay.source.options import made_of
from rejeu.replay.source.rows import arranged
from rejeu.spec.sources import GENERATORS


def read_generator(request: ReplayRequest, from_us: int | None, until_us: int | None) -> Iterator[pa.Table]:
    """The rows of `request.generator`, which `from_us` changes in nothing: they are the same wherever one begins."""
    return arranged(open_generator(str(request.generator)).tables(from_us), request, from_us, until_us)


def open_generator(text: str) -> Generator:
    """Read `name:option=value,...`. Raises RequestError for an unknown name or option, or a wrong value."""
    name, _, rest = text.partition(":")
    model: type[Generator] = GENERATORS.find(name, "--generator").model
    options = dict(part.strip().partition("=")[::2] for part in rest.split(",") if part.strip())
    return made_of(model, options, f"--generator {name}")
