"""The rows that every subject publishes: in a Parquet file, and the same rows as chunks, messages and requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rejeu.jobs.request import ReplayRequest
from rejeu.message import EPOCH, EVENT_TIME, MAX_REQUEST_MESSAGES, ROW_ID, STREAM
from rejeu.replay.chunk import Chunk
from rejeu.replay.format.wire import messages, topic_field
from rejeu.replay.reading import read_chunks
from rejeu.timeline import format_instant, from_us, parse_instant, to_us

TOPIC: Final = "projects/rejeu-bench/topics/bench"
STREAM_NAME: Final = "bench"
FIRST_EPOCH: Final = 1
"""The epoch of a replay without a state store."""
START: Final = parse_instant("2021-05-01T00:00:00Z")
STEP: Final = timedelta(milliseconds=1)
ROWS_A_SECOND: Final = timedelta(seconds=1) // STEP
"""At speed 1."""

CLIENT_SHARE: Final = 10
"""Google's client gets a tenth of the messages: with all of them it would take most of the run."""
GROUP_ROWS: Final = 100_000
SYMBOLS: Final = pa.array(["BTC", "ETH", "BAND"])
HEX_DIGITS: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
PROOF_DIGITS: Final = 100


@dataclass(frozen=True)
class Message:
    """A body of about 200 bytes, and the four attributes that it always travels with."""

    data: bytes
    attributes: dict[str, str]


@dataclass(frozen=True)
class Feed:
    """One set of rows in the four shapes that subjects begin with; `messages` has only the share of Google's client."""

    replay: ReplayRequest
    chunks: list[Chunk]
    messages: list[Message]
    requests: list[bytes]

    @classmethod
    def make(cls, folder: Path, count: int) -> Self:
        """Write `count` rows to a file in the folder, and prepare the rest from it."""
        replay = replay_of(write_rows(folder / "rows.parquet", count))
        chunks = list(read_chunks(replay, None))
        return cls(
            replay,
            chunks,
            list(islice((message for chunk in chunks for message in _messages(chunk)), max(1, count // CLIENT_SHARE))),
            [request for chunk in chunks for request in _requests(chunk)],
        )


def replay_of(file: Path, **values: Any) -> ReplayRequest:
    """The request to replay such a file, at speed max unless `values` say otherwise."""
    given = {"topic": TOPIC, "stream": STREAM_NAME, "file": str(file), "event_time": "at", "key": ("n",)}
    return ReplayRequest.of(**given | {"speed": "max"} | values)


def write_rows(file: Path, count: int) -> Path:
    """Write `count` rows, always the same: one every `STEP` from `START` on. Returns the file."""
    random = np.random.default_rng(0)
    with pq.ParquetWriter(file, _rows(np.arange(0), random).schema) as writer:
        for at in range(0, count, GROUP_ROWS):
            writer.write_table(_rows(np.arange(at, min(at + GROUP_ROWS, count)), random))
    return file


def _rows(n: NDArray[np.int64], random: np.random.Generator) -> pa.Table:
    event_us = to_us(START) + n * (STEP // timedelta(microseconds=1))
    digits = HEX_DIGITS[random.integers(0, 16, (len(n), PROOF_DIGITS), np.uint8)]
    return pa.table(
        {
            "at": pa.array(event_us).cast(pa.timestamp("us", "UTC")),
            "n": n,
            "price": random.uniform(1, 60_000, len(n)).round(2),
            "symbol": SYMBOLS.take(pa.array(random.integers(0, len(SYMBOLS), len(n)))),
            "proof": pa.array(digits.view(f"S{PROOF_DIGITS}").ravel(), pa.binary()).cast(pa.string()),
        }
    )


def _messages(chunk: Chunk) -> Iterator[Message]:
    for data, row_id, event_us in zip(chunk.data.to_pylist(), chunk.row_ids.to_pylist(), chunk.event_us, strict=True):
        yield Message(data, _attributes(row_id, int(event_us)))


def _attributes(row_id: str, event_us: int) -> dict[str, str]:
    event_time = format_instant(from_us(event_us))
    return {ROW_ID: row_id, EVENT_TIME: event_time, STREAM: STREAM_NAME, EPOCH: str(FIRST_EPOCH)}


def _requests(chunk: Chunk) -> list[bytes]:
    topic, encoded = topic_field(TOPIC), messages(chunk, STREAM_NAME, FIRST_EPOCH)
    starts = range(0, len(chunk), MAX_REQUEST_MESSAGES)
    return [encoded.request(topic, at, min(at + MAX_REQUEST_MESSAGES, len(chunk))) for at in starts]
