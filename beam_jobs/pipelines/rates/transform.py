"""Band oracle requests to rows, one for each symbol.

The request's shape is that of the public table `crypto_band.oracle_requests` (blockchain-etl/band-etl).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import apache_beam as beam
import msgspec

from beam_jobs.transforms.decode import Decode, Decoder
from rejeu.errors import RequestError
from rejeu.jobs.request import PipelineRequest
from rejeu.timeline import format_instant, parse_instant

RATES_SCRIPT: Final = 3
"""The oracle script whose requests ask for the rates of several symbols at once."""

Part = TypeVar("Part")


class _Script(msgspec.Struct):
    oracle_script_id: int


class _Envelope(msgspec.Struct):
    request: _Script


class _Decoded(msgspec.Struct):
    calldata: str
    result: str


class _OracleRequest(_Envelope):
    block_timestamp_truncated: str
    oracle_request_id: int
    decoded_result: _Decoded


class _Calldata(msgspec.Struct):
    symbols: list[str]
    multiplier: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class _Result(msgspec.Struct):
    rates: list[float]


def transform(request: PipelineRequest) -> beam.PTransform:
    """Messages to (rows, dead letters)."""
    return Decode(request.stream, make_decoder, explodes=True)


def make_decoder() -> Decoder:
    """A decoder of oracle requests. Integers may come as text, as BigQuery's own JSON has them."""
    envelope = msgspec.json.Decoder(_Envelope, strict=False)
    request = msgspec.json.Decoder(_OracleRequest, strict=False)
    calldata = msgspec.json.Decoder(_Calldata, strict=False)
    result = msgspec.json.Decoder(_Result, strict=False)

    def decode(body: bytes) -> list[dict[str, Any]]:
        try:
            asked = request.decode(body)
        except msgspec.ValidationError:
            # Other scripts have other shapes: what they hold beyond their number is not ours to judge.
            if envelope.decode(body).request.oracle_script_id != RATES_SCRIPT:
                return []
            raise
        if asked.request.oracle_script_id != RATES_SCRIPT:
            return []
        call = _nested(calldata, "calldata", asked.decoded_result.calldata)
        rates = _nested(result, "result", asked.decoded_result.result).rates
        if len(call.symbols) != len(rates):
            return []
        return _rows(asked, call, rates)

    return decode


def _nested(decoder: msgspec.json.Decoder[Part], name: str, text: str) -> Part:
    try:
        return decoder.decode(text)
    except ValueError as error:
        raise ValueError(f"decoded_result.{name}: {error}") from None


def _rows(asked: _OracleRequest, call: _Calldata, rates: list[float]) -> list[dict[str, Any]]:
    try:
        instant = parse_instant(asked.block_timestamp_truncated.replace(" UTC", "Z"))
    except RequestError as error:
        raise ValueError(f"block_timestamp_truncated: {error}") from None
    timestamp, date_str = format_instant(instant), instant.strftime("%Y%m%d%H%M%S")
    number, multiplier = str(asked.oracle_request_id), call.multiplier
    return [
        {
            "timestamp": timestamp,
            "request": number,
            "symbol": symbol,
            "rate": rate / multiplier,
            "date_str": date_str,
        }
        for symbol, rate in zip(call.symbols, rates, strict=True)
    ]
