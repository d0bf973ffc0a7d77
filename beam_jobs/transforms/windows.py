"""Messages to the rows of windows, one for each key and pane; the pipeline decides what a row says of its records.

Panes accumulate, and a window knows its records by their messages' ids: a message that is delivered twice counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final, NamedTuple

import apache_beam as beam
import msgspec
from apache_beam.transforms.trigger import AccumulationMode, AfterProcessingTime, AfterWatermark
from apache_beam.transforms.window import (
    FixedWindows,
    GlobalWindows,
    IntervalWindow,
    Sessions,
    TimestampedValue,
    WindowFn,
)
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfo, PaneInfoTiming

from beam_jobs.transforms.counts import Count
from beam_jobs.transforms.decode import DecodeFn
from beam_jobs.transforms.records import DEAD, Message, Row
from rejeu.errors import RequestError
from rejeu.jobs.request import PipelineRequest
from rejeu.message import MAX_KEY_CHARS, digest
from rejeu.spec.pipelines import Windows
from rejeu.timeline import format_instant, from_us, parse_instant, to_us

FOR_EVER: Final = 10_000 * 366 * 86_400
"""Seconds: more than between any two instants of BigQuery, and few enough for Beam's own clock."""
TIMINGS: Final = {
    PaneInfoTiming.EARLY: "EARLY",
    PaneInfoTiming.ON_TIME: "ON_TIME",
    PaneInfoTiming.LATE: "LATE",
    # For bounded input, which is there from the start, runners give no timing.
    PaneInfoTiming.UNKNOWN: "ON_TIME",
}


class Record(NamedTuple):
    """What a message says: whose it is, when it happened (microseconds since the epoch), and what of it counts.

    `key` has a text for each column of the pipeline's `Windows.key`, in their order.
    """

    key: tuple[str, ...]
    event_us: int
    value: Any


RECORDS: Final = "records"
Identified = tuple[str, Any]
"""A message's row id and its record's value."""
Keyed = tuple[str, Identified]
Grouped = tuple[str, Iterable[Identified]]
Decoder = Callable[[bytes], Record]
"""Returns a body's record. Raises one of WRONG where it is wrong."""
Summary = Callable[[Collection[Any]], dict[str, Any]]
"""Returns a pipeline's columns for a window's values, one value for each message, in any order."""


class Windowed(beam.PTransform):
    """Messages to (rows, dead letters): a row for each key and pane of a window, `summary` of the records in it."""

    def __init__(
        self, request: PipelineRequest, windows: Windows, make_decoder: Callable[[], Decoder], summary: Summary
    ) -> None:
        super().__init__()
        self._request, self._windows, self._summary = request, windows, summary
        self._make_decoder = make_decoder
        self.seconds = request.session_seconds or request.window_seconds or windows.seconds
        """The most that lies between a record and its window's begin or end."""
        self.pause_seconds = request.session_seconds or 0.0
        """Records of a key that are closer than this share a window, from record to record; 0 for fixed windows."""
        self.lateness_seconds = request.lateness_seconds

    def make_decoder(self) -> Decoder:
        """A decoder of this pipeline's messages; it also refuses half a key, and times that are no calendar's."""
        decode, margin_us, columns = self._make_decoder(), round(self.seconds * 1e6), self._windows.key

        def decode_in_range(body: bytes) -> Record:
            record = decode(body)
            if len(record.key) != len(columns):
                raise ValueError(f"its key is {record.key!r}: it must have a text for each of {', '.join(columns)}")
            try:
                from_us(record.event_us - margin_us), from_us(record.event_us + margin_us)
            except OverflowError:
                rule = "with its window it must lie in the years 1 to 9999"
                raise ValueError(f"it happened {record.event_us} µs from the epoch: {rule}") from None
            return record

        return decode_in_range

    def expand(self, messages: beam.PCollection[Message]) -> tuple[beam.PCollection[Row], beam.PCollection[Row]]:
        decode = beam.ParDo(_RecordsFn(self._request.stream, self.make_decoder))
        records, letters = messages | "decode" >> decode.with_output_types(Keyed).with_outputs(DEAD, main=RECORDS)
        rows = (
            self._group(records)
            | "write panes" >> beam.ParDo(_PaneFn(self._request.stream, self._windows, self._summary))
            | "leave windows" >> beam.WindowInto(GlobalWindows())
        )
        return rows, letters

    def _group(self, records: beam.PCollection[Keyed]) -> beam.PCollection[Grouped]:
        cut = Sessions(self.seconds) if self.pause_seconds else FixedWindows(self.seconds)
        if not records.is_bounded:
            return records | "window" >> self._into_panes(cut) | "group" >> beam.GroupByKey()
        # One pane a window: in bounded input nothing is early or late.
        if self.pause_seconds:
            return records | "window" >> beam.WindowInto(cut) | "group" >> beam.GroupByKey()
        return records | "group" >> _GroupByWindow(cut)

    def _into_panes(self, cut: WindowFn) -> beam.WindowInto:
        early = self._request.early_seconds
        return beam.WindowInto(
            cut,
            trigger=AfterWatermark(early=_AfterSeconds(early), late=_AfterSeconds(early)),
            accumulation_mode=AccumulationMode.ACCUMULATING,
            allowed_lateness=self.lateness_seconds or FOR_EVER,
        )


class _GroupByWindow(beam.PTransform):
    """`GroupByKey` in fixed windows for bounded input, without triggers.

    A trigger's cost for each record grows with the number of its key's windows, which may be thousands a day.
    """

    def __init__(self, cut: FixedWindows) -> None:
        super().__init__()
        self._cut = cut

    def expand(self, records: beam.PCollection[Keyed]) -> beam.PCollection[Grouped]:
        return (
            records
            | "window" >> beam.WindowInto(self._cut)
            | "name windows" >> beam.MapTuple(_name_window)
            | "as one" >> beam.WindowInto(GlobalWindows())
            | "group" >> beam.GroupByKey()
            | "leave names" >> beam.MapTuple(_leave_name)
            | "window again" >> beam.WindowInto(self._cut)
        )


def _name_window(
    key: str, record: Identified, window: IntervalWindow = beam.DoFn.WindowParam
) -> tuple[tuple[str, int], Identified]:
    return (key, window.start.micros), record


def _leave_name(named: tuple[str, int], records: Iterable[Identified]) -> TimestampedValue:
    key, start_us = named
    return TimestampedValue((key, records), Timestamp(micros=start_us))


class _AfterSeconds(AfterProcessingTime):
    """AfterProcessingTime with fractions of a second, which Beam's own does not pass to a runner."""

    def to_runner_api(self, context: Any) -> Any:
        proto = AfterProcessingTime().to_runner_api(context)
        proto.after_processing_time.timestamp_transforms[0].delay.delay_millis = round(self.delay * 1000)
        return proto


class _RecordsFn(DecodeFn):
    def made_of(self, message: Message, decoded: Record) -> list[TimestampedValue]:
        keyed = (key_text(decoded.key), (message.row_id, decoded.value))
        return [TimestampedValue(keyed, Timestamp(micros=decoded.event_us))]


class _PaneFn(beam.DoFn):
    """Writes a row for each pane; counts on `late` the rows of windows that get records after their end."""

    def __init__(self, stream: str, windows: Windows, summary: Summary) -> None:
        self._stream, self._windows, self._summary = stream, windows, summary
        self._late = Count(stream, "late")

    def process(
        self,
        grouped: Grouped,
        window: IntervalWindow = beam.DoFn.WindowParam,
        pane: PaneInfo = beam.DoFn.PaneInfoParam,
    ) -> Iterator[Row]:
        key, identified = grouped[0], dict(grouped[1])
        timing = TIMINGS[pane.timing]
        if timing == "LATE":
            self._late.add()
        values = {
            self._windows.start: format_instant(from_us(window.start.micros)),
            **dict(zip(self._windows.key, key_parts(key, len(self._windows.key)), strict=True)),
            **self._summary(identified.values()),
            self._windows.count: len(identified),
            self._windows.end: format_instant(from_us(window.end.micros)),
            "pane_index": pane.index,
            "pane_timing": timing,
        }
        yield self._row(key, window, f"{timing}-{pane.index}", values, identified)

    def _row(
        self, key: str, window: IntervalWindow, pane: str, values: dict[str, Any], row_ids: Collection[str]
    ) -> Row:
        """The row, with a message of its own that names the first and the last message that it was made from."""
        short = key if len(key) <= MAX_KEY_CHARS else digest(key.encode())
        row_id = f"{self._stream}/{window.start.micros}/{short}/{window.end.micros}/{pane}#{len(row_ids)}"
        made_from = {"first": min(row_ids), "last": max(row_ids)}
        return Row(row_id, values, Message(row_id, msgspec.json.encode(values), made_from))


def key_text(key: tuple[str, ...]) -> str:
    """A key as one text, which runners order and compare: a single part as it is, several as a JSON list."""
    return key[0] if len(key) == 1 else msgspec.json.encode(key).decode()


def key_parts(text: str, count: int) -> list[str]:
    """The parts of a key that `key_text` has made one."""
    return [text] if count == 1 else msgspec.json.decode(text, type=list[str])


def event_us_of(field: str, instant: str) -> int:
    """A field's microseconds since the epoch, from RFC 3339 or BigQuery's own format. Raises ValueError."""
    try:
        return to_us(parse_instant(instant.replace(" UTC", "Z")))
    except RequestError as error:
        raise ValueError(f"{field}: {error}") from None
