"""`python -m beam_jobs.reconcile`: compares a source with what its stream wrote, and publishes again what is missing.

No Beam pipeline runs here: one process reads the source as the replay does, decodes it as the streaming job does, and
asks BigQuery for row ids. Rows that were published before it began count as missing only after `--settle-seconds`.
"""

from __future__ import annotations

import heapq
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.api_core.exceptions import GoogleAPIError
from google.api_core.retry import Retry
from google.cloud import bigquery
from google.cloud.pubsub_v1 import PublisherClient
from numpy.typing import NDArray

from beam_jobs.program import check_column, main, transform_of
from beam_jobs.slices import MINUTE_US, TEXT, Expected, IdWindow, Slice, expect, slices
from beam_jobs.tables import columns_of
from beam_jobs.transforms.decode import Decode
from beam_jobs.transforms.sink import client_for
from rejeu.bigquery import sql
from rejeu.errors import PublishError, RejeuError, RequestError, SourceError
from rejeu.gcp.clients import finite_retry, query_read_client
from rejeu.gcp.small_files import write_text
from rejeu.jobs.request import ReconcileRequest
from rejeu.message import EVENT_TIME, ROW_ID, STREAM
from rejeu.reconcile import FaultyMinute, Reconciliation
from rejeu.replay.chunk import Chunk
from rejeu.replay.reading import read_chunks
from rejeu.replay.source.times import FIRST_US
from rejeu.replay.source.windows import TimeColumn
from rejeu.timeline import Position, format_instant, from_us, to_us

QUERY_SECONDS: Final = 600.0
POLL_SECONDS: Final = 2.0
"""How often to look for the rows that were published again."""
AWAITED_ROWS: Final = 500_000
"""How many awaited row ids to hold at most before the next slice is read."""
WORST: Final = 20
COUNTED: Final = ("minutes", "expected", "missing", "still_missing", "doubles", "unexpected", "dead_letters")
"""What is counted, by its names in the report."""
ID: Final = re.compile(r"[^/]*/(?P<us>-?\d+)/(?P<key>.*)/\d+(#\d+)?", re.DOTALL)
"""A row id as in `rejeu.message`, with the number that `explodes` adds."""


class Found(NamedTuple):
    """Ids that BigQuery has, each once, and how many rows each has in the streaming table: none for a dead letter."""

    ids: pa.LargeStringArray
    written: NDArray[np.int64]


class Repeat(NamedTuple):
    """A message to publish again."""

    row_id: str
    event_us: int
    body: bytes


Look = Callable[[IdWindow], Found]
Publish = Callable[[Iterable[Repeat]], None]


def run(argv: Sequence[str]) -> None:
    """Compare, heal and report. Raises RejeuError where rows are missing at the end."""
    request = ReconcileRequest.from_argv(argv)
    start = None if request.from_ is None else Position(_first_us(request))
    reconciler = Reconciler(request, BigQueryLook(request), lambda messages: publish_again(request, messages))
    if request.report:
        # Fails now rather than at the end; also, an earlier try's report is not taken for this one's.
        write_text(request.report, "")
    report = reconciler.run(read_chunks(request.reading, start))
    if request.report:
        write_text(request.report, report.model_dump_json(indent=2) + "\n")
    print(f"rejeu: {report}", flush=True)
    if report.still_missing:
        raise RejeuError(
            f"{request.stream}: {report.still_missing:,} rows are still missing {request.patience_seconds:g} s after "
            "the last one came: their messages wait in the subscription, so check whether the streaming job runs. For "
            "10 minutes it drops messages that it wrote before, as duplicates: then reconcile again later"
        )


@dataclass(frozen=True, eq=False)
class Hole:
    """Rows that were published again and have not come yet."""

    window: IdWindow
    ids: pa.LargeStringArray


class Reconciler:
    """One comparison: `look` returns what BigQuery has, and `publish` returns once Pub/Sub has the messages."""

    def __init__(
        self,
        request: ReconcileRequest,
        look: Look,
        publish: Publish,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._request, self._look, self._publish, self._clock, self._pause = request, look, publish, clock, pause
        self._transform = decode_of(request)
        self._settled_at = clock() + request.settle_seconds
        self._counts = Counter[str]()
        self._worst: dict[tuple[int | None, str], Counter[str]] = {}
        self._holes: list[Hole] = []

    def run(self, chunks: Iterable[Chunk]) -> Reconciliation:
        """Compare all messages of the request, slice by slice. Raises as reading, `look` and `publish` do."""
        request = self._request
        for part in slices(chunks, _first_us(request), to_us(request.until)):
            self._compare(part)
            if sum(len(hole.ids) for hole in self._holes) > AWAITED_ROWS:
                self._await_healing()
        self._await_healing()
        counts = self._counts
        return Reconciliation(
            stream=request.stream,
            from_time=request.from_ if isinstance(request.from_, datetime) else None,
            until_time=request.until,
            checked_at=datetime.now(UTC),
            found=counts["expected"] - counts["missing"],
            healed=counts["missing"] - counts["still_missing"],
            **{name: counts[name] for name in COUNTED},
            worst=tuple(_faulty_minute(minute, key, found) for (minute, key), found in self._worst.items()),
        )

    def _compare(self, part: Slice) -> None:
        request = self._request
        expected = expect(part, self._transform, request.streaming_time, request.time_unit)
        settles_in = self._settled_at - self._clock()
        found = self._look(expected.window)
        missing = _not_in(expected.ids, found.ids)
        if missing.any() and settles_in > 0:
            self._say(f"{missing.sum():,} rows may be under way: looking again in {settles_in:.0f} s")
            self._pause(settles_in)
            found = self._look(expected.window)
            missing = _not_in(expected.ids, found.ids)
        self._count(part, expected, found, missing)
        if missing.any():
            self._heal(part, expected, missing)
        self._say(f"{self._counts['expected']:,} rows compared, {self._counts['missing']:,} of them missing")

    def _count(self, part: Slice, expected: Expected, found: Found, missing: NDArray[np.bool_]) -> None:
        unexpected = _not_in(found.ids, expected.ids) & (found.written > 0)
        beyond = np.maximum(found.written - 1, 0)
        dead = found.ids.filter(pa.array((found.written == 0) & ~_not_in(found.ids, expected.ids)))
        self._counts.update(
            minutes=part.minutes,
            expected=len(expected.ids),
            missing=int(missing.sum()),
            doubles=int(beyond.sum()),
            unexpected=int(unexpected.sum()),
            dead_letters=len(dead),
        )
        if not (missing.any() or beyond.any() or unexpected.any()):
            return
        tally = defaultdict(Counter, self._worst)
        for kind, ids, amounts in (
            ("expected", expected.ids, np.ones(len(expected.ids), np.int64)),
            ("missing", expected.ids, missing.astype(np.int64)),
            ("doubles", found.ids, beyond),
            ("unexpected", found.ids, unexpected.astype(np.int64)),
        ):
            counted = amounts > 0
            for row_id, amount in zip(ids.filter(pa.array(counted)).to_pylist(), amounts[counted], strict=True):
                tally[_minute_and_key(row_id)][kind] += int(amount)
        wrong = [each for each in tally if _faults(tally[each])]
        self._worst = {each: tally[each] for each in heapq.nlargest(WORST, wrong, lambda one: _faults(tally[one]))}

    def _heal(self, part: Slice, expected: Expected, missing: NDArray[np.bool_]) -> None:
        """Publish the messages of the missing rows again, and remember which ids must come."""
        rows = np.unique(expected.messages[missing])
        self._say(f"publishing {len(rows):,} messages again")
        ids, bodies = part.row_ids.take(pa.array(rows)), part.bodies.take(pa.array(rows))
        times = part.event_us[rows].tolist()
        self._publish(map(Repeat, ids.to_pylist(), times, bodies.to_pylist()))
        window = IdWindow(times[0], times[-1] + 1, expected.window.written_us)
        self._holes.append(Hole(window, expected.ids.filter(pa.array(missing))))

    def _await_healing(self) -> None:
        """Look until all have come, or until none has come for too long."""
        deadline = self._clock() + self._request.patience_seconds
        while (rows := self._awaited()) and self._clock() < deadline:
            self._pause(POLL_SECONDS)
            self._holes = [each for hole in self._holes if len((each := self._look_into(hole)).ids)]
            if self._awaited() < rows:
                deadline = self._clock() + self._request.patience_seconds
                self._say(f"{self._awaited():,} rows are still to come")
        self._counts["still_missing"] += self._awaited()
        self._holes = []

    def _awaited(self) -> int:
        return sum(len(hole.ids) for hole in self._holes)

    def _look_into(self, hole: Hole) -> Hole:
        missing = _not_in(hole.ids, self._look(hole.window).ids)
        return Hole(hole.window, hole.ids.filter(pa.array(missing)))

    def _say(self, what: str) -> None:
        print(f"rejeu: {self._request.stream}: {what}", flush=True)


def decode_of(request: ReconcileRequest) -> Decode:
    """What turns one message into rows. Raises RequestError where the pipeline makes rows of several messages."""
    transform = transform_of(request.decoding)
    if not isinstance(transform, Decode):
        rule = "it makes rows of several messages, so none tells which message is missing"
        raise RequestError(f"--pipeline is {request.pipeline!r}: {rule}; compare a stream that decodes its messages")
    return transform


class BigQueryLook:
    """What the streaming table and the dead letters hold. Raises RequestError where a table or column is missing."""

    def __init__(self, request: ReconcileRequest) -> None:
        self._request = request
        columns = columns_of(request.streaming_table, "--streaming-table")
        columns_of(request.dead_letters, "--dead-letters")
        check_column("--streaming-time", request.streaming_time, columns)
        (kind,) = (each.type for each in columns if each.name.lower() == request.streaming_time.lower())
        self._time = TimeColumn(request.streaming_time, kind, request.time_unit)

    def __call__(self, window: IdWindow) -> Found:
        """The ids of this window. Raises SourceError where BigQuery does not answer."""
        request = self._request
        query = sql.delivered(
            request.streaming_table, request.dead_letters, request.stream, self._prune(window), self._time.micros
        )
        bounds = (("from_us", window.from_us), ("until_us", window.until_us))
        parameters = [bigquery.ScalarQueryParameter(name, "INT64", value) for name, value in bounds]
        config = bigquery.QueryJobConfig(query_parameters=parameters)
        retry: Retry = finite_retry()
        try:
            job = client_for(request.streaming_table).query(query, job_config=config, retry=retry, job_retry=retry)
            result = job.result(retry=retry, timeout=QUERY_SECONDS)
            batches = list(result.to_arrow_iterable(bqstorage_client=query_read_client()))
        except (GoogleAPIError, OSError) as error:
            raise SourceError(f"{request.streaming_table} cannot be compared: {error}; mend that and retry") from error
        rows = pa.Table.from_batches(batches)
        ids = pc.fill_null(rows[ROW_ID].cast(TEXT), "").combine_chunks()
        return Found(ids, rows["written"].to_numpy())

    def _prune(self, window: IdWindow) -> str:
        """The condition on the rows' own event times, which may differ from those in their ids."""
        if window.written_us is None:
            return ""
        first_us, last_us = window.written_us
        return self._time.within(first_us, last_us + 1)


def publish_again(request: ReconcileRequest, messages: Iterable[Repeat]) -> None:
    """Publish as the replay did, under the same ids, and wait for Pub/Sub's answers. Raises PublishError."""
    publisher = PublisherClient()
    try:
        answers = [
            publisher.publish(
                request.topic_path,
                each.body,
                **{ROW_ID: each.row_id, EVENT_TIME: format_instant(from_us(each.event_us)), STREAM: request.stream},
            )
            for each in messages
        ]
        for answer in answers:
            answer.result(timeout=request.patience_seconds)
    except (GoogleAPIError, TimeoutError) as error:
        reason = str(error) or f"no answer in {request.patience_seconds:g} s"
        raise PublishError(f"{request.topic_path} did not take all messages: {reason}; mend that and retry") from error
    finally:
        publisher.stop()


def _first_us(request: ReconcileRequest) -> int:
    return to_us(request.from_) if isinstance(request.from_, datetime) else FIRST_US


def _not_in(ids: pa.LargeStringArray, among: pa.LargeStringArray) -> NDArray[np.bool_]:
    """Which of the ids are not among the others, as a mask."""
    return ~pc.is_in(ids, value_set=among).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _minute_and_key(row_id: str) -> tuple[int | None, str]:
    """The minute, in microseconds since the epoch, and the key in an id; (None, the whole id) if it is not ours."""
    said = ID.fullmatch(row_id)
    return (None, row_id) if said is None else (int(said["us"]) // MINUTE_US * MINUTE_US, said["key"])


def _faults(counts: Counter[str]) -> int:
    return counts["missing"] + counts["doubles"] + counts["unexpected"]


def _faulty_minute(minute: int | None, key: str, counts: Counter[str]) -> FaultyMinute:
    return FaultyMinute(minute=None if minute is None else from_us(minute), key=key, **counts)


if __name__ == "__main__":
    sys.exit(main(run))
