"""Rows that the replay's tests read and send, and the types of their fixtures; no fixture and no test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from rejeu.replay.chunk import Chunk
from rejeu.replay.engine import Replay
from rejeu.replay.report import Report
from rejeu.replay.send.pacer import Clock
from rejeu.timeline import parse_instant, to_us

PROJECT = "rejeu-local"
TOPIC = f"projects/{PROJECT}/topics/t"
STREAM = "clicks"
T0 = to_us(parse_instant("2021-05-01T00:00:00Z"))
SECONDS = 20.0

Rows = list[tuple[int, str, bytes]]
"""Event time, row id, body."""
Run = Callable[[Replay], "Future[Report]"]


def chunk_of(rows: Sequence[tuple[int, str, bytes]], ordering: Sequence[str] | None = None) -> Chunk:
    """These rows as a chunk."""
    return Chunk(
        np.array([event_us for event_us, _, _ in rows], np.int64),
        pa.array([row_id for _, row_id, _ in rows], pa.large_string()),
        pa.array([data for _, _, data in rows], pa.large_binary()),
        None if ordering is None else pa.array(ordering, pa.large_string()),
    )


def rows_of(chunk: Chunk) -> Rows:
    """What `chunk_of` made it of."""
    columns = (chunk.event_us.tolist(), chunk.row_ids.to_pylist(), chunk.data.to_pylist())
    return list(zip(*columns, strict=True))


def body(number: int) -> bytes:
    """Row n of the file that replays read: n seconds after T0; its `k` is a for even n, b for odd."""
    return b'{"at":"2021-05-01T00:00:%02dZ","n":%d,"k":"%s"}' % (number, number, (b"a", b"b")[number % 2])


def bodies(*numbers: int) -> list[bytes]:
    """As `FakeBroker.bodies` gives them."""
    return sorted(body(number) for number in numbers)


def at(number: int) -> str:
    """When row n happened."""
    return f"2021-05-01T00:00:{number:02d}.000000Z"


class MakeReplay(Protocol):
    """Makes a replay of the file at speed max; its flags may be told otherwise."""

    def __call__(self, clock: Clock | None = None, **values: Any) -> Replay: ...
