"""Simulators: sources that make their rows up, the same rows for the same options; their registry and reader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa
from pydantic import ValidationError

from rejeu.errors import RequestError
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source.generators.base import Generator
from rejeu.replay.source.generators.clickstream import Clickstream
from rejeu.replay.source.generators.oracle_requests import OracleRequests
from rejeu.replay.source.generators.sensors import IotSensors
from rejeu.replay.source.generators.site_access import SiteAccess
from rejeu.replay.source.rows import EVENT_US, arrange, clip

__all__ = ["GENERATORS", "Generator", "open_generator", "read_generator"]

GENERATORS: Final[dict[str, type[Generator]]] = {
    "clickstream": Clickstream,
    "iot_sensors": IotSensors,
    "oracle_requests": OracleRequests,
    "site_access": SiteAccess,
}


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
    if name not in GENERATORS:
        known = ", ".join(sorted(GENERATORS))
        raise RequestError(f"--generator {name}: there is no such simulator; name one of {known}")
    options = dict(part.strip().partition("=")[::2] for part in rest.split(",") if part.strip())
    try:
        return GENERATORS[name].model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{first['loc'][0]}: {first['msg']}"
    except RequestError as error:
        reason = str(error)
    raise RequestError(f"--generator {name}: {reason}; options: {', '.join(GENERATORS[name].model_fields)}")
