"""Messages to rows, one at a time, by a pipeline's own decoder; a message that it refuses becomes a dead letter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import apache_beam as beam

from beam_jobs.transforms.counts import Count
from beam_jobs.transforms.dead_letters import dead_letter
from beam_jobs.transforms.records import DEAD, ROWS, Message, Row

Decoder = Callable[[bytes], list[dict[str, Any]]]
"""Returns a body's rows, none if the message is not for this pipeline. Raises one of WRONG where it is wrong."""
WRONG: Final = (ValueError, ArithmeticError, RecursionError)
"""The last two: a number that is too large to calculate with, and JSON that is nested too deeply."""


class Decode(beam.PTransform):
    """Messages to (rows, dead letters). With `explodes`, a row's id says which of its message's rows it is."""

    def __init__(self, stream: str, make_decoder: Callable[[], Decoder], *, explodes: bool = False) -> None:
        super().__init__()
        self.make_decoder, self.explodes = make_decoder, explodes
        self._fn = _RowsFn(stream, make_decoder, explodes)

    def expand(self, messages: beam.PCollection[Message]) -> beam.pvalue.DoOutputsTuple:
        return messages | beam.ParDo(self._fn).with_outputs(DEAD, main=ROWS)


class DecodeFn(beam.DoFn):
    """Decodes and counts messages, with a dead letter for each wrong one; `made_of` turns the others into output."""

    def __init__(self, stream: str, make_decoder: Callable[[], Callable[[bytes], Any]]) -> None:
        self._stream, self._make_decoder = stream, make_decoder
        self._in = Count(stream, "in")

    def setup(self) -> None:
        # msgspec's decoders do not pickle, so each worker makes its own.
        self._decode = self._make_decoder()

    def start_bundle(self) -> None:
        self._messages = 0

    def process(self, message: Message) -> Iterable[Any]:
        self._messages += 1
        try:
            decoded = self._decode(message.body)
        except WRONG as error:
            return [beam.pvalue.TaggedOutput(DEAD, dead_letter(self._stream, "decode", str(error), message))]
        return self.made_of(message, decoded)

    def finish_bundle(self) -> None:
        self._in.add(self._messages)

    def made_of(self, message: Message, decoded: Any) -> Iterable[Any]:
        raise NotImplementedError


class _RowsFn(DecodeFn):
    def __init__(self, stream: str, make_decoder: Callable[[], Decoder], explodes: bool) -> None:
        super().__init__(stream, make_decoder)
        self._explodes = explodes
        self._filtered = Count(stream, "filtered")

    def start_bundle(self) -> None:
        super().start_bundle()
        self._others = 0

    def made_of(self, message: Message, decoded: list[dict[str, Any]]) -> list[Row]:
        if not decoded:
            self._others += 1
        ids = row_ids(message.row_id, len(decoded), explodes=self._explodes)
        return [Row(row_id, values, message) for row_id, values in zip(ids, decoded, strict=True)]

    def finish_bundle(self) -> None:
        super().finish_bundle()
        self._filtered.add(self._others)


def row_ids(row_id: str, count: int, *, explodes: bool) -> list[str]:
    """The ids of the rows that one message becomes."""
    return [f"{row_id}#{index}" for index in range(count)] if explodes else [row_id] * count
