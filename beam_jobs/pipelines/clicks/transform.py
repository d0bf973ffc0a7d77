"""Events to counts of users and windows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import apache_beam as beam
import msgspec

from beam_jobs.pipelines.clicks import WINDOWS
from beam_jobs.transforms.windows import Decoder, Record, Windowed, event_us_of
from rejeu.jobs.request import PipelineRequest


class _Click(msgspec.Struct):
    user_pseudo_id: str
    event_timestamp: int | str
    """Microseconds since the epoch, as Google Analytics exports it, or an instant."""


def transform(request: PipelineRequest) -> beam.PTransform:
    """Messages to (rows, dead letters)."""
    return Windowed(request, WINDOWS, make_decoder, _summary)


def make_decoder() -> Decoder:
    """A decoder of events: all that is asked of one is whose it is, and when."""
    decoder = msgspec.json.Decoder(_Click)

    def decode(body: bytes) -> Record:
        click = decoder.decode(body)
        return Record((click.user_pseudo_id,), _event_us(click.event_timestamp), None)

    return decode


def _event_us(value: int | str) -> int:
    """Microseconds since the epoch; as text where the number went through BigQuery's own JSON."""
    if isinstance(value, int) or value.isdecimal():
        return int(value)
    return event_us_of("event_timestamp", value)


def _summary(_: Collection[Any]) -> dict[str, Any]:
    """Nothing beyond their number, which every window has."""
    return {}
