"""The rows of a round: a file to replay, and, reckoned apart from the replay, the ids that must come out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from rejeu.timeline import format_instant, from_us, parse_instant, to_us
from tests.chaos.plan import Plan

STREAM: Final = "chaos"
START_US: Final = to_us(parse_instant("2021-05-01T00:00:00Z"))
INSTANT_US: Final = 1_000
"""Times are whole milliseconds, so that at high rates many rows share one."""
UNPACED_RATE: Final = 100_000
SYMBOLS: Final = 10


@dataclass(frozen=True)
class Row:
    """What must arrive of a row: `place` is where it stands in replay order."""

    place: int
    n: int
    symbol: str


def write_rows(plan: Plan, file: Path) -> dict[str, Row]:
    """Write the plan's rows; the row ids that they must have, each with what must arrive of it."""
    n = np.arange(plan.rows)
    event_us = START_US + n * 1_000_000 // (plan.rate or UNPACED_RATE) // INSTANT_US * INSTANT_US
    symbols = [f"s{each}" for each in np.random.default_rng(plan.number).integers(0, SYMBOLS, plan.rows)]
    if file.suffix == ".parquet":
        times = pa.array(event_us).cast(pa.timestamp("us", "UTC"))
        pq.write_table(pa.table({"at": times, "n": n, "symbol": symbols}), file)
    else:
        with file.open("wb") as lines:
            for us, number, symbol in zip(event_us.tolist(), n.tolist(), symbols, strict=True):
                lines.write(orjson.dumps({"at": format_instant(from_us(us)), "n": number, "symbol": symbol}) + b"\n")
    ordered = sorted(zip(event_us.tolist(), (f"{s}~{i}" for i, s in enumerate(symbols)), n.tolist(), strict=True))
    return {f"{STREAM}/{us}/{key}/0": Row(place, i, symbols[i]) for place, (us, key, i) in enumerate(ordered)}
