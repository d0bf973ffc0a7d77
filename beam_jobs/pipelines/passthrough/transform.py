"""JSON objects to rows, as they are."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import apache_beam as beam
import msgspec

from beam_jobs.transforms.decode import Decode, Decoder
from rejeu.jobs.request import PipelineRequest


def transform(request: PipelineRequest) -> beam.PTransform:
    """Messages to (rows, dead letters)."""
    return Decode(request.stream, make_decoder)


def make_decoder() -> Decoder:
    """A decoder of JSON objects, each one row."""
    decoder = msgspec.json.Decoder(dict[str, Any], float_hook=_number)
    return lambda body: [decoder.decode(body)]


def _number(text: str) -> float | str:
    """A float, or the number's own text where a float would lose digits, as BigQuery reads NUMERIC."""
    number = float(text)
    return number if math.isfinite(number) and Decimal(text) == Decimal(repr(number)) else text
