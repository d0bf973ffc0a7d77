"""Pub/Sub's wire format, written for whole columns at once, where protobuf writes message by message.

`PublishRequest` has the topic in field 1 and the messages, repeated, in field 2; `PubsubMessage` has the data in
field 1, the attributes, a map, in field 2 and the ordering key in field 5 (google/pubsub/v1/pubsub.proto).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rejeu.message import EPOCH, EVENT_TIME, ROW_ID, STREAM
from rejeu.replay.chunk import Chunk
from rejeu.replay.format.instants import instant_digits

BYTES: Final = pa.large_binary()
NOTHING: Final = pa.scalar(b"", BYTES)
DATA, ATTRIBUTE, ORDERING_KEY, MESSAGE, TOPIC = b"\x0a", b"\x12", b"\x2a", b"\x12", b"\x0a"
"""Each field's number and its wire type, which is 2: bytes with their length before them."""


@dataclass(frozen=True, eq=False)
class Messages:
    """Rows as a request has them, one after the other; `ends` is where each one begins and the last one ends."""

    buffer: memoryview
    ends: NDArray[np.int64]

    def fit(self, at: int, limit: int, size: int) -> int:
        """The end of the rows from `at` on, at most `limit`, that fit into `size` bytes; always at least one row."""
        return max(at + 1, min(limit, int(np.searchsorted(self.ends, self.ends[at] + size, side="right")) - 1))

    def request(self, topic: bytes, at: int, end: int) -> bytes:
        """A PublishRequest of these rows; `topic` is what `topic_field` returns."""
        return b"".join((topic, self.buffer[self.ends[at] : self.ends[end]]))

    def request_of(self, topic: bytes, rows: NDArray[np.int64]) -> bytes:
        """The same for rows that need not be neighbours."""
        return b"".join((topic, *(self.buffer[self.ends[row] : self.ends[row + 1]] for row in rows)))

    def pieces(self, rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
        """The same rows, cut so that no piece has more than `size` bytes; a larger row is a piece of its own."""
        behind = np.cumsum(self.ends[rows + 1] - self.ends[rows])
        cuts = [0]
        while cuts[-1] < len(rows):
            before = behind[cuts[-1] - 1] if cuts[-1] else 0
            cuts.append(max(cuts[-1] + 1, int(np.searchsorted(behind, before + size, side="right"))))
        return np.split(rows, cuts[1:-1])


def topic_field(topic: str) -> bytes:
    """The topic's field, with which every request to it begins."""
    return _field(TOPIC, topic.encode())


def messages(chunk: Chunk, stream: str, epoch: int) -> Messages:
    """The chunk's rows with all their attributes."""
    constant = _attribute(STREAM, stream) + _attribute(EPOCH, str(epoch))
    columns = [chunk.data, *_row_id(chunk.row_ids), _event_time(chunk.event_us, constant)]
    if chunk.ordering is not None:
        columns += [_heads(ORDERING_KEY, _sizes(chunk.ordering)), chunk.ordering.cast(BYTES)]
    sizes = [_sizes(column) for column in columns]
    heads = _message_heads(sizes[0], sum(sizes[1:]))
    joined = pc.binary_join_element_wise(heads, *columns, NOTHING)
    _, offsets, buffer = joined.buffers()
    return Messages(memoryview(buffer), np.frombuffer(offsets, np.int64, len(joined) + 1, joined.offset * 8))


def _message_heads(data: NDArray[np.int64], others: Any) -> pa.LargeBinaryArray:
    """What comes before the data: the message's field and length, then the data's field and length."""
    data_lengths, data_widths = _varints(data)
    message_lengths, message_widths = _varints(1 + data_widths + data + others)
    count = len(data)
    return _packed(
        [
            (_column(MESSAGE, count), None),
            (message_lengths, message_widths),
            (_column(DATA, count), None),
            (data_lengths, data_widths),
        ]
    )


def _row_id(ids: pa.LargeStringArray) -> tuple[pa.LargeBinaryArray, pa.LargeBinaryArray]:
    sizes = _sizes(ids)
    key = _field(b"\x0a", ROW_ID.encode()) + b"\x12"
    lengths, widths = _varints(sizes)
    entry_lengths, entry_widths = _varints(len(key) + widths + sizes)
    count = len(ids)
    heads = _packed(
        [
            (_column(ATTRIBUTE, count), None),
            (entry_lengths, entry_widths),
            (_column(key, count), None),
            (lengths, widths),
        ]
    )
    return heads, ids.cast(BYTES)


def _event_time(event_us: NDArray[np.int64], behind: bytes) -> pa.LargeBinaryArray:
    """The attribute, followed by `behind`, which is the same in every message: all rows have one length."""
    digits = instant_digits(event_us)
    text = "0" * digits.shape[1]
    before = _attribute(EVENT_TIME, text).removesuffix(text.encode())
    count = len(event_us)
    rows = np.hstack([_column(before, count), digits, _column(behind, count)])
    return _array(rows, np.full(count, rows.shape[1]))


def _sizes(texts: pa.Array) -> NDArray[np.int64]:
    return pc.binary_length(texts).to_numpy()  # type: ignore[no-any-return]


def _heads(field: bytes, sizes: NDArray[np.int64]) -> pa.LargeBinaryArray:
    lengths, widths = _varints(sizes)
    return _packed([(_column(field, len(sizes)), None), (lengths, widths)])


def _attribute(name: str, value: str) -> bytes:
    """An entry of a map is a message of key and value."""
    return _field(ATTRIBUTE, _field(b"\x0a", name.encode()) + _field(b"\x12", value.encode()))


def _field(field: bytes, content: bytes) -> bytes:
    lengths, widths = _varints(np.array([len(content)]))
    return field + lengths[0, : widths[0]].tobytes() + content


def _varints(values: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Varints as rows of bytes, and how many of them count: seven bits a byte, the lowest first; all but the last
    byte have the highest bit set."""
    most = max(1, -(-int(values.max(initial=0)).bit_length() // 7))
    cells = np.empty((len(values), most), np.uint8)
    widths = np.ones(len(values), np.int64)
    for place in range(most):
        rest = values >> (7 * (place + 1))
        cells[:, place] = (values >> (7 * place)) & 0x7F | (rest > 0) << 7
        widths += rest > 0
    return cells, widths


def _packed(parts: list[tuple[NDArray[np.uint8], NDArray[np.int64] | None]]) -> pa.LargeBinaryArray:
    """Each row's bytes of all parts, one after the other; of a part with widths, only so many of a row's bytes."""
    cells = np.hstack([each for each, _ in parts])
    used = np.full(len(cells), sum(each.shape[1] for each, widths in parts if widths is None))
    keep = np.ones(cells.shape, dtype=bool)
    at = 0
    for each, widths in parts:
        if widths is not None:
            used += widths
            for place in range(1, each.shape[1]):
                keep[:, at + place] = place < widths
        at += each.shape[1]
    return _array(cells[keep] if not keep.all() else cells, used)


def _column(content: bytes, count: int) -> NDArray[np.uint8]:
    """The same bytes in every row."""
    return np.broadcast_to(np.frombuffer(content, np.uint8), (count, len(content)))


def _array(content: NDArray[np.uint8], sizes: NDArray[np.int64]) -> pa.LargeBinaryArray:
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    return pa.LargeBinaryArray.from_buffers(
        BYTES, len(sizes), [None, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(content))]
    )
