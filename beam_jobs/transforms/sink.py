"""Writes rows to a table that exists, by BigQuery's streaming inserts; a row that it refuses becomes a dead letter."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import apache_beam as beam
import msgspec
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue
from google.api_core.exceptions import GoogleAPICallError, InternalServerError
from google.api_core.retry import Retry
from google.cloud import bigquery

from beam_jobs.transforms.counts import Count
from beam_jobs.transforms.dead_letters import dead_letter
from beam_jobs.transforms.records import Row
from rejeu.gcp.clients import bigquery_client
from rejeu.message import digest

log = logging.getLogger(__name__)

MAX_ROWS: Final = 2000
MAX_BYTES: Final = 5_000_000
"""Most rows of a call: BigQuery takes 50,000 and 10 MB; the emulator is twice as fast with 2,000 as with 500."""
CALL_SECONDS: Final = 30.0
RETRY: Final = bigquery.DEFAULT_RETRY.with_delay(initial=0.5, maximum=10.0).with_deadline(300.0)
"""Long enough for a server to restart; then the bundle fails, and the runner tries it again or ends the job."""
RETRY_UNLESS_500: Final = RETRY.with_predicate(
    lambda error: not isinstance(error, InternalServerError) and RETRY._predicate(error)
)
MAX_INSERT_ID_CHARS: Final = 128
"""BigQuery's limit (https://cloud.google.com/bigquery/quotas#streaming_inserts); a row id may be longer."""
REFUSED_WHOLE: Final = (400, 413)
"""HTTP codes of a call that no retry helps."""


@cache
def client_for(table: str) -> bigquery.Client:
    """The client, one for a process and table: the DirectRunner sets up a DoFn for each bundle."""
    return bigquery_client(table.split(".", maxsplit=1)[0])


class InsertRows(beam.DoFn):
    """Inserts rows with few calls a bundle and yields dead letters. Inserted rows are counted on `counter`."""

    def __init__(self, stream: str, table: str, counter: str) -> None:
        self._stream, self._table = stream, table
        self._inserted = Count(stream, counter)

    def start_bundle(self) -> None:
        self._start_batch()
        self._refused: list[Row] = []

    def process(self, row: Row) -> None:
        size = len(msgspec.json.encode(row.values))
        if len(self._rows) == MAX_ROWS or self._bytes + size > MAX_BYTES:
            self._flush()
        self._rows.append(row)
        self._bytes += size

    def finish_bundle(self) -> Iterator[WindowedValue]:
        self._flush()
        for letter in self._refused:
            yield GlobalWindows.windowed_value(letter)

    def _start_batch(self) -> None:
        self._rows: list[Row] = []
        self._bytes = 0

    def _flush(self) -> None:
        rows = self._rows
        self._start_batch()
        if rows:
            self._insert(rows)

    def _insert(self, rows: list[Row]) -> None:
        try:
            errors = self._call_for_good_rows(rows)
        except GoogleAPICallError as error:
            if error.code not in REFUSED_WHOLE:
                raise
            self._insert_by_halves(rows, str(error))
            return
        for each in errors:
            self._refuse(rows[each["index"]], str(each["errors"]))
        self._inserted.add(len(rows) - len(errors))

    def _call_for_good_rows(self, rows: list[Row]) -> Sequence[dict[str, Any]]:
        """Insert all rows at once; only if one is wrong, the good ones, which takes the emulator twice as long."""
        try:
            if not self._call(rows, RETRY_UNLESS_500, skip_invalid_rows=False):
                return []
        except InternalServerError:
            # The emulator's answer for a row that it cannot convert; from BigQuery it means to try again.
            pass
        return self._call(rows, RETRY, skip_invalid_rows=True)

    def _call(self, rows: list[Row], retry: Retry, *, skip_invalid_rows: bool) -> Sequence[dict[str, Any]]:
        errors: Sequence[dict[str, Any]] = client_for(self._table).insert_rows_json(
            self._table,
            [row.values for row in rows],
            row_ids=[_insert_id(row.row_id) for row in rows],
            skip_invalid_rows=skip_invalid_rows,
            retry=retry,
            timeout=CALL_SECONDS,
        )
        return errors

    def _insert_by_halves(self, rows: list[Row], reason: str) -> None:
        """A call that is refused as a whole does not name the row: halve it until one row is left."""
        if len(rows) == 1:
            self._refuse(rows[0], reason)
            return
        middle = len(rows) // 2
        self._insert(rows[:middle])
        self._insert(rows[middle:])

    def _refuse(self, row: Row, reason: str) -> None:
        self._refused.append(dead_letter(self._stream, "insert", reason, row.message, row.row_id))


def _insert_id(row_id: str) -> str:
    """The id by which BigQuery drops repeats of the row for a minute."""
    return row_id if len(row_id) <= MAX_INSERT_ID_CHARS else digest(row_id.encode())
