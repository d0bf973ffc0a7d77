"""Entries and exits to rows and, in Bigtable, to how many are at each site and service now.

An event is stored first. Then its minute is added up from the events, its hour from the minutes, its day from the
hours, and each status from the days: so nothing depends on how often, or in what order, an event comes.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import apache_beam as beam
import msgspec
from google.cloud.bigtable.data import Mutation, RowMutationEntry, SetCell

from beam_jobs.transforms.bigtable import AddUp, Kind, Sum, WriteEvents
from beam_jobs.transforms.decode import Decode, Decoder
from beam_jobs.transforms.records import DEAD, ROWS, Message, Row
from rejeu.errors import RequestError
from rejeu.gcp.bigtable import EVENT, OCCUPANCY, SEPARATOR, STATUS, STATUS_ROWS, SUM, key_part
from rejeu.jobs.request import PipelineRequest
from rejeu.timeline import format_instant, parse_instant, to_us

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
"""Such that a key of Bigtable, which has 4,096 bytes at most, can be made of two of them and a row id."""

EVENTS: Final = Kind("event", EVENT, "event", is_sum=False)
MINUTES: Final = Kind("minute", SUM, "sum")
HOURS: Final = Kind("hour", SUM, "sum")
DAYS: Final = Kind("day", SUM, "sum")
STATUSES: Final = Kind(STATUS_ROWS, STATUS, OCCUPANCY, says_when=True)

SUMS: Final = (
    Sum(MINUTES, EVENTS, scope="{0}#{1}#{2:.16}"),
    Sum(HOURS, MINUTES, scope="{0}#{1}#{2:.13}"),
    Sum(DAYS, HOURS, scope="{0}#{1}#{2:.10}"),
)
"""Of (site, service, event time): each is made of the one before, so that no calculation reads all events."""
CALCULATIONS: Final = {
    "of services": Sum(STATUSES, DAYS, scope="{0}#{1}#"),
    "of sites": Sum(STATUSES, DAYS, scope="{0}#"),
}


class _Event(msgspec.Struct):
    eventTime: str
    site: Name
    service: Name
    device: str
    event: Literal[-1, 1]


def transform(request: PipelineRequest) -> beam.PTransform:
    """Messages to (rows, dead letters)."""
    decode = Decode(request.stream, make_decoder)
    return decode if request.bigtable is None else Served(decode, request.stream, request.bigtable)


def make_decoder() -> Decoder:
    """A decoder of entries (+1) and exits (-1). Integers may come as text, as BigQuery's own JSON has them."""
    decoder = msgspec.json.Decoder(_Event, strict=False)

    def decode(body: bytes) -> list[dict[str, Any]]:
        event = decoder.decode(body)
        try:
            instant = parse_instant(event.eventTime)
        except RequestError as error:
            raise ValueError(f"eventTime: {error}") from None
        return [msgspec.structs.asdict(event) | {"eventTime": format_instant(instant)}]

    return decode


class Served(beam.PTransform):
    """Messages to (rows, dead letters), and on the way into the stream's table of a Bigtable instance."""

    def __init__(self, decode: Decode, stream: str, instance: str) -> None:
        super().__init__()
        self._decode, self._where = decode, (stream, instance)

    def expand(self, messages: beam.PCollection[Message]) -> tuple[beam.PCollection[Row], beam.PCollection[Row]]:
        rows, undecoded = messages | "decode" >> self._decode
        written, unwritten = rows | "write events" >> _outputs(WriteEvents(*self._where, to_entry))
        letters = [undecoded, unwritten]
        for each in SUMS:
            written, failed = written | f"add up {each.kind.name}s" >> _outputs(AddUp(*self._where, each, parts))
            letters.append(failed)
        for name, each in CALCULATIONS.items():
            _, failed = written | f"occupancy {name}" >> _outputs(AddUp(*self._where, each, parts))
            letters.append(failed)
        return rows, letters | "not served" >> beam.Flatten()


def parts(row: Row) -> tuple[str, str, str]:
    """Of the keys that an event has a part in: site, service, event time."""
    return key_part(row.values["site"]), key_part(row.values["service"]), row.values["eventTime"]


def to_entry(row: Row) -> RowMutationEntry:
    """The event as Bigtable has it: the same row and the same cells, whenever it is written again."""
    stamp = max(0, to_us(parse_instant(row.values["eventTime"]))) // 1000 * 1000
    columns = {
        "service": row.values["service"],
        "eventTime": row.values["eventTime"],
        "event": str(row.values["event"]),
    }
    cells: list[Mutation] = [SetCell(EVENT, name, value, stamp) for name, value in columns.items()]
    return RowMutationEntry(SEPARATOR.join([EVENTS.name, *parts(row), key_part(row.row_id)]), cells)


def _outputs(step: beam.DoFn) -> beam.PTransform:
    return beam.ParDo(step).with_outputs(DEAD, main=ROWS)
