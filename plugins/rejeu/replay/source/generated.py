"""Reads simulators: sources that make their rows up, the same rows for the same options; each has its own module."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pydantic import ValidationError

from rejeu.errors import RequestError
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source.generators.base import Generator
from rejeu.replay.source.rows import EVENT_US, arrange, clip
from rejeu.spec.generators import GENERATORS


def read_generator(request: ReplayRequest, from_us: int | None, until_us: int | None) -> Iterator[pa.Table]:
    """The rows of `request.generator`, which `from_us` changes in nothing: they are the same wherever one begins."""
    for table in open_generator(str(request.generator)).tables(from_us):
        rows = arrange(table, request)
        if until_us is not None and rows[EVENT_US][0].as_py() >= until_us:
            return
        yield clip(rows, from_us, until_us)


def open_generator(text: str) -> Generator:
    """Read `name:option=value,...`. Raises RequestError for an unknown name or option, or a wrong value."""
    name, _, rest = text.partition(":")
    model: type[Generator] = GENERATORS.find(name, "--generator").model
    options = dict(part.strip().partition("=")[::2] for part in rest.split(",") if part.strip())
    try:
        return model.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{first['loc'][0]}: {first['msg']}"
    except RequestError as error:
        reason = str(error)
    raise RequestError(f"--generator {name}: {reason}; options: {', '.join(model.model_fields)}")
