"""Records of the V'lille open-data API to rows, one for each station and observation.

A message is one record, with the instant that the API was asked for; a line of a raw file is a whole answer of them.
The answer's shape is that of opendatasoft's `api/records/1.0/search`, dataset `vlille-realtime`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import apache_beam as beam
import msgspec

from beam_jobs.transforms.decode import WRONG, Decode, Decoder
from beam_jobs.transforms.records import Message
from rejeu.errors import RequestError
from rejeu.jobs.request import PipelineRequest
from rejeu.spec.names import OBSERVED_AT
from rejeu.timeline import format_instant, parse_instant


class _Fields(msgspec.Struct):
    libelle: str | int
    nom: str | None = None
    adresse: str | None = None
    commune: str | None = None
    etat: str | None = None
    etatconnexion: str | None = None
    type: str | None = None
    nbvelosdispo: int | None = None
    nbplacesdispo: int | None = None
    localisation: Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)] | None = None
    datemiseajour: str | None = None


class _Record(msgspec.Struct):
    observed_at: str
    recordid: str
    fields: _Fields
    record_timestamp: str | None = None


class _Answer(msgspec.Struct):
    observed_at: msgspec.Raw
    records: list[msgspec.Raw]


class DecodeStations(Decode):
    """Decodes records. A whole answer is parted first, so that one wrong record costs no other."""

    def expand(self, messages: beam.PCollection[Message]) -> beam.pvalue.DoOutputsTuple:
        return super().expand(messages | "part answers" >> beam.FlatMap(part))


def transform(request: PipelineRequest) -> beam.PTransform:
    """Messages to (rows, dead letters)."""
    return DecodeStations(request.stream, make_decoder)


def part(message: Message) -> Iterator[Message]:
    """The messages of an answer's records, `<row id>#<place in the answer>`; any other message as it is."""
    try:
        answer = msgspec.json.decode(message.body, type=_Answer)
    except WRONG:
        yield message
        return
    for index, record in enumerate(answer.records):
        yield Message(f"{message.row_id}#{index}", _observed(record, answer.observed_at), message.attributes)


def _observed(record: msgspec.Raw, observed_at: msgspec.Raw) -> bytes:
    """The record as a message has it; what is no object is left to the decoder to refuse."""
    try:
        values = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
    except ValueError:
        return bytes(record)
    return msgspec.json.encode({OBSERVED_AT: observed_at, **values})


def make_decoder() -> Decoder:
    """A decoder of records: numbers are numbers, and what a station does not say is null."""
    decoder = msgspec.json.Decoder(_Record)
    return lambda body: [_row(decoder.decode(body))]


def _row(record: _Record) -> dict[str, Any]:
    fields = record.fields
    latitude, longitude = fields.localisation or (None, None)
    return {
        "observed_at": _instant("observed_at", record.observed_at),
        "recordid": record.recordid,
        "record_timestamp": _instant("record_timestamp", record.record_timestamp),
        "libelle": str(fields.libelle),
        "nom": fields.nom,
        "adresse": fields.adresse,
        "commune": fields.commune,
        "etat": fields.etat,
        "etatconnexion": fields.etatconnexion,
        "type": fields.type,
        "nbvelosdispo": fields.nbvelosdispo,
        "nbplacesdispo": fields.nbplacesdispo,
        "latitude": latitude,
        "longitude": longitude,
        "datemiseajour": _instant("fields.datemiseajour", fields.datemiseajour),
    }


def _instant(name: str, text: str | None) -> str | None:
    try:
        return None if text is None else format_instant(parse_instant(text))
    except RequestError as error:
        raise ValueError(f"{name}: {error}") from None
