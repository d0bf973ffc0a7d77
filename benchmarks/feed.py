"""What every subject publishes: rows in a file, and the same rows as chunks, as messages and as finished requests."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Self

from rejeu.message import EPOCH, EVENT_TIME, MAX_REQUEST_MESSAGES, ROW_ID, STREAM
from rejeu.replay.chunks import Chunk, read_chunks
from rejeu.replay.publisher import build_request
from rejeu.request import ReplayRequest
from rejeu.timeline import format_instant, from_us, parse_instant

TOPIC: Final = "projects/rejeu-bench/topics/bench"
STREAM_NAME: Final = "bench"
FIRST_EPOCH: Final = 1
"""What a replay without a state store publishes under."""
START: Final = parse_instant("2021-05-01T00:00:00Z")
STEP: Final = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Message:
    """A body of about 200 bytes, and the four attributes that it always travels with."""

    data: bytes
    attributes: dict[str, str]


@dataclass(frozen=True)
class Feed:
    """One set of rows in the four shapes that the subjects begin with."""

    replay: ReplayRequest
    chunks: list[Chunk]
    messages: list[Message]
    requests: list[bytes]

    @classmethod
    def make(cls, folder: Path, count: int) -> Self:
        """Write `count` rows to a file in the folder, the same ones every time, and prepare the rest from it."""
        file = folder / "rows.ndjson"
        _write_rows(file, count)
        replay = ReplayRequest.of(
            topic=TOPIC, stream=STREAM_NAME, file=str(file), event_time="at", key=("n",), speed="max"
        )
        chunks = list(read_chunks(replay, None))
        rows = [
            (data, row_id, format_instant(from_us(event_us)))
            for chunk in chunks
            for data, row_id, event_us in zip(chunk.data, chunk.row_ids, chunk.event_us, strict=True)
        ]
        return cls(replay, chunks, [_message(*row) for row in rows], _requests(rows))


def _write_rows(file: Path, count: int) -> None:
    source = random.Random(0)
    with file.open("w", encoding="utf-8") as lines:
        for n in range(count):
            row = {"at": format_instant(START + STEP * n), "n": n, "price": round(source.uniform(1, 60_000), 2)}
            lines.write(json.dumps(row | {"symbol": source.choice(("BTC", "ETH", "BAND")), "proof": _hex(source)}))
            lines.write("\n")


def _hex(source: random.Random) -> str:
    return source.randbytes(50).hex()


def _message(data: bytes, row_id: str, event_time: str) -> Message:
    attributes = {ROW_ID: row_id, EVENT_TIME: event_time, STREAM: STREAM_NAME, EPOCH: str(FIRST_EPOCH)}
    return Message(data, attributes)


def _requests(rows: list[tuple[bytes, str, str]]) -> list[bytes]:
    return [
        build_request(TOPIC, rows[at : at + MAX_REQUEST_MESSAGES], STREAM_NAME, str(FIRST_EPOCH)).SerializeToString()
        for at in range(0, len(rows), MAX_REQUEST_MESSAGES)
    ]
