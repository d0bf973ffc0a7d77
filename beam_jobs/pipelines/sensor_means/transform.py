"""Readings to the means of sensors and windows."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated, Final

import apache_beam as beam
import msgspec

from beam_jobs.pipelines.sensor_means import WINDOWS
from beam_jobs.transforms.windows import Decoder, Record, Windowed, event_us_of
from rejeu.jobs.request import PipelineRequest

FIELDS: Final = ("Airtight", "AtmP", "H2OC", "Temp")
Measure = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]
"""No number that millions of them could not be added up to a mean of."""


class _Reading(msgspec.Struct):
    sensor: str
    Timestamp: str
    Airtight: Measure | None = None
    AtmP: Measure | None = None
    H2OC: Measure | None = None
    Temp: Measure | None = None


def transform(request: PipelineRequest) -> beam.PTransform:
    """Messages to (rows, dead letters)."""
    return Windowed(request, WINDOWS, make_decoder, means)


def make_decoder() -> Decoder:
    """A decoder of readings; a field that a sensor could not measure is null, or is not there."""
    decoder = msgspec.json.Decoder(_Reading)

    def decode(body: bytes) -> Record:
        reading = decoder.decode(body)
        values = tuple(getattr(reading, field) for field in FIELDS)
        return Record((reading.sensor,), event_us_of("Timestamp", reading.Timestamp), values)

    return decode


def means(readings: Collection[tuple[float | None, ...]]) -> dict[str, float | None]:
    """The mean of each field over the readings that have it, null where none has; their order changes no digit."""
    return {field: _mean(each) for field, each in zip(FIELDS, zip(*readings, strict=True), strict=True)}


def _mean(values: Collection[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present else None
