"""A record of what the null server received: each request unchanged, with the time of its arrival, in a file."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from google.pubsub_v1 import types
from numpy.typing import NDArray

from rejeu.message import EPOCH, EVENT_TIME

PublishRequest = types.PublishRequest.pb()
HEAD: Final = struct.Struct("<qq")
"""Nanoseconds since the epoch, and the request's size in bytes."""


class Recorder:
    """Appends to the file; any thread may call."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("ab", buffering=0)

    def note(self, request: bytes) -> None:
        """Write this request with the present time."""
        self._file.write(HEAD.pack(time.time_ns(), len(request)) + request)


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Every message's arrival and event time in microseconds since 1970, and its attribute `epoch`."""

    at_us: NDArray[np.int64]
    event_us: NDArray[np.int64]
    epochs: NDArray[np.int64]

    @classmethod
    def read(cls, file: Path) -> Self:
        """All messages of the file, in order of arrival."""
        at_us, event_times, epochs = [], [], []
        for at_ns, request in _requests(file):
            for message in request.messages:
                at_us.append(at_ns // 1_000)
                event_times.append(message.attributes[EVENT_TIME].removesuffix("Z"))
                epochs.append(int(message.attributes[EPOCH]))
        times = np.array(event_times, "datetime64[us]").astype(np.int64)
        return cls(np.array(at_us, np.int64), times, np.array(epochs, np.int64))


def _requests(file: Path) -> Iterator[tuple[int, Any]]:
    with file.open("rb") as record:
        while head := record.read(HEAD.size):
            at_ns, size = HEAD.unpack(head)
            yield at_ns, PublishRequest.FromString(record.read(size))
