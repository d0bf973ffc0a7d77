"""Rows of an API that is polled; each answer is kept as a raw file before its records become rows.

Time is cut into steps, each with one kept answer, whichever replay asked. The API is asked for the current step only:
a step that ends without an answer stays a gap. So every reader gets the same rows at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

import msgspec
import pyarrow as pa

from rejeu.errors import SourceError
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.send.pacer import Clock
from rejeu.replay.source.api_client import SECOND_US, Api
from rejeu.replay.source.ndjson import Fields
from rejeu.replay.source.raw import RawFiles
from rejeu.replay.source.rows import name_columns
from rejeu.spec.names import OBSERVED_AT
from rejeu.spec.types import MAX
from rejeu.timeline import format_instant, from_us

log = logging.getLogger(__name__)

HEAD_START_SECONDS: Final = 2.0
"""How long a standby waits for the holder to ask before it asks itself."""


class Answer(msgspec.Struct):
    """What is read of every answer; of a record only that it is an object."""

    records: list[dict[str, msgspec.Raw]]


class RawAnswer(Answer):
    """An answer as it is kept: one line, with the time of asking at its end, where it counts more than one before."""

    observed_at: msgspec.Raw


def read_api(
    request: ReplayRequest, start_us: int | None, until_us: int | None, clock: Clock | None = None
) -> Iterator[pa.Table]:
    """A table for each answer from `start_us` on (None: from the first that is kept), as soon as it comes.

    After `until_us` the API is not asked. Raises SourceError where the API refuses the question or has not answered
    for long, or where the raw files cannot be used.
    """
    clock, step_us = clock or Clock(), _step_us(request)
    raw, rows = RawFiles(str(request.raw), request.project), Rows(request)
    api = Api(request, step_us, clock, rows.check)
    head_start_us = min(HEAD_START_SECONDS * SECOND_US, step_us / 4) if request.standby else 0
    at_us = start_us
    while until_us is None or at_us is None or at_us < until_us:
        now_us = clock.now_us()
        passed_us = now_us // step_us * step_us if until_us is None or until_us > now_us else until_us
        if at_us is None or at_us < passed_us:
            instants = raw.instants(at_us, passed_us)
            _tell_gaps(request.stream, instants, at_us, passed_us, step_us)
            for each_us in instants:
                yield rows.of(raw.read(each_us) or b"", raw.path_of(each_us))
            at_us = passed_us
            continue
        at_us = -(-at_us // step_us) * step_us
        if at_us + head_start_us > now_us:
            clock.wait((at_us + head_start_us - now_us) / SECOND_US)
            continue
        body = raw.read(at_us)
        if body is None and (answer := api.ask(at_us)) is not None:
            body = raw.keep(at_us, _line(answer, at_us))
        if body is not None:
            yield rows.of(body, raw.path_of(at_us))
        at_us += step_us


class Rows:
    """Makes a table of a raw file's content."""

    def __init__(self, request: ReplayRequest) -> None:
        self._stream, self._fields = request.stream, Fields(request)
        self._asked, self._answer = msgspec.json.Decoder(Answer), msgspec.json.Decoder(RawAnswer)
        self._told = False

    def check(self, answer: bytes) -> None:
        """Raises ValueError and RecursionError for an answer that could be kept, and made into rows never."""
        answer.decode()  # msgspec does not check the text that it skips
        self._fields.records([msgspec.json.encode(record) for record in self._asked.decode(answer).records])

    def of(self, line: bytes, path: str) -> pa.Table:
        """One row for each record, unchanged but for the time of asking. Raises SourceError."""
        try:
            answer = self._answer.decode(line)
            asked_at = {OBSERVED_AT: answer.observed_at}
            rows = [msgspec.json.encode(asked_at | record | asked_at) for record in answer.records]
            records = self._fields.records(rows)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path} is broken: {error}; mend or remove it") from error
        self._tell_theirs(answer.records, path)
        if rows:
            self._fields.check_keys(records, rows[0])
        return name_columns([self._fields.times(records), pa.array(rows, pa.binary()), *self._fields.keys(records)])

    def _tell_theirs(self, records: list[dict[str, msgspec.Raw]], path: str) -> None:
        """Log once that records have a time of that name, which the rows do not have."""
        if not self._told and any(OBSERVED_AT in record for record in records):
            self._told = True
            told = f"an {OBSERVED_AT} of their own: in the rows it is when it was asked for; theirs is in {path}"
            log.warning("%s: the API's records have %s", self._stream, told)


def _step_us(request: ReplayRequest) -> int:
    """The length of a step: whole seconds, because files are named by them; at least one, to spare public APIs."""
    speed = 1.0 if request.speed == MAX else float(request.speed)
    return max(1, round(request.every_seconds / speed)) * SECOND_US


def _line(answer: bytes, at_us: int) -> bytes:
    """The answer on one line, with the time of asking added at its end."""
    body = answer.translate(bytes.maketrans(b"\r\n", b"  ")).strip()
    return body[:-1] + f',"{OBSERVED_AT}":"{format_instant(from_us(at_us))}"}}\n'.encode()


def _tell_gaps(stream: str, instants: list[int], start_us: int | None, until_us: int, step_us: int) -> None:
    """Log how many steps have no answer and never will; there may be more of them than fit into memory."""
    if start_us is None and not instants:
        return
    first = -(-(instants[0] if start_us is None else start_us) // step_us)
    last = until_us // step_us
    answered = sorted({each // step_us for each in instants if first <= each // step_us < last})
    if missing := last - first - len(answered):
        gap = next((step for step, found in enumerate(answered, first) if step != found), first + len(answered))
        since = format_instant(from_us(gap * step_us))
        log.warning("%s: nobody asked the API %d times from %s on: gaps", stream, missing, since)
