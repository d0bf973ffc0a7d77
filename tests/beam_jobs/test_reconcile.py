"""What is missing is found and published again, exactly that, and what was found is reported."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs import slices as slicing
from beam_jobs.reconcile import POLL_SECONDS, BigQueryLook, Found, Reconciler, Repeat, decode_of
from beam_jobs.slices import TEXT, IdWindow, Slice, expect, slices
from rejeu.errors import RequestError
from rejeu.jobs.request import ReconcileRequest
from rejeu.reconcile import FaultyMinute, Reconciliation
from rejeu.replay.reading import read_chunks
from rejeu.spec.pipelines import PIPELINES, Pipeline
from rejeu.testing import registered
from rejeu.timeline import format_instant, to_us
from tests.beam_jobs.builders import STREAM, make_request

BEGIN = datetime(2021, 5, 1, tzinfo=UTC)
END = BEGIN + timedelta(minutes=5)
EVERY = timedelta(seconds=6)
MESSAGES = 50
ROWS = 2 * MESSAGES


def at(number: int) -> datetime:
    """When the request of this number happened: ten a minute."""
    return BEGIN + number * EVERY


def row_id(number: int, row: int) -> str:
    return f"{STREAM}/{to_us(at(number))}/{number}/0#{row}"


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., ReconcileRequest]:
    """Writes fifty requests of five minutes as a file; returns the request that compares them."""

    def write(changed: dict[int, dict[str, Any]] | None = None, **wishes: Any) -> ReconcileRequest:
        bodies = [
            make_request(number, block_timestamp_truncated=format_instant(at(number))) | (changed or {}).get(number, {})
            for number in range(MESSAGES)
        ]
        file = tmp_path / "requests.ndjson"
        file.write_text("".join(json.dumps(body) + "\n" for body in bodies))
        return ReconcileRequest.of(
            **{
                "topic": "projects/rejeu-test/topics/rates",
                "stream": STREAM,
                "file": str(file),
                "event_time": "block_timestamp_truncated",
                "key": ("oracle_request_id",),
                "from_": BEGIN,
                "until": END,
                "pipeline": "rates",
                "streaming_table": "rejeu-test.live.rates",
                "streaming_time": "timestamp",
                "dead_letters": "rejeu-test.live.dead",
                **wishes,
            }
        )

    return write


class World:
    """Topic, streaming job and table in one: it takes `delay` seconds to write a message, or for ever."""

    def __init__(self, request: ReconcileRequest, delay: float = 0.0) -> None:
        self.request, self.delay = request, delay
        self.rows = Counter[str]()
        self.dead: set[str] = set()
        self.published: list[str] = []
        self.works = True
        self.asked = 0
        self.now = 0.0
        self._coming: list[tuple[float, list[str]]] = []
        whole = Slice.of(list(read_chunks(request.reading, None)), to_us(BEGIN), to_us(END))
        self.add(*expect(whole, decode_of(request), request.streaming_time, None).ids.to_pylist())

    def add(self, *ids: str, seconds: float = 0.0) -> None:
        """Have these rows written, now or later."""
        if seconds:
            self._coming.append((self.now + seconds, list(ids)))
        else:
            self.rows.update(ids)

    def lose(self, *ids: str) -> None:
        for each in ids:
            del self.rows[each]

    def reconcile(self) -> Reconciliation:
        self.published.clear()
        reconciler = Reconciler(self.request, self.look, self.publish, clock=lambda: self.now, pause=self._wait)
        return reconciler.run(read_chunks(self.request.reading, None))

    def look(self, window: IdWindow) -> Found:
        self.asked += 1
        ids = [each for each in {*self.rows, *self.dead} if window.from_us <= _event_us(each) < window.until_us]
        return Found(pa.array(ids, TEXT), np.array([self.rows[each] for each in ids], np.int64))

    def publish(self, messages: Iterable[Repeat]) -> None:
        decode = decode_of(self.request).make_decoder()
        for each in messages:
            assert each.event_us == _event_us(each.row_id)
            self.published.append(each.row_id)
            if self.works:
                self.add(
                    *(f"{each.row_id}#{row}" for row in range(len(decode(each.body)))),
                    seconds=len(self.published) * self.delay,
                )

    def _wait(self, seconds: float) -> None:
        self.now += seconds
        for due, ids in self._coming:
            if due <= self.now:
                self.rows.update(ids)
        self._coming = [each for each in self._coming if each[0] > self.now]


def _event_us(row_id: str) -> int:
    text = row_id.split("/")[1] if "/" in row_id else ""
    return int(text) if text.isdigit() else to_us(BEGIN)


# What is missing


def test_where_nothing_is_missing_nothing_is_published(source: Callable[..., ReconcileRequest]) -> None:
    world = World(source())
    report = world.reconcile()
    assert (report.minutes, report.expected, report.found) == (5, ROWS, ROWS)
    assert (report.missing, report.doubles, report.unexpected, report.worst) == (0, 0, 0, ())
    assert world.published == []
    assert world.now == 0


def test_exactly_the_messages_of_what_is_missing_are_published_again(source: Callable[..., ReconcileRequest]) -> None:
    world = World(source())
    world.lose(*(row_id(number, row) for number in range(10, 20) for row in (0, 1)), row_id(33, 1))
    report = world.reconcile()
    assert world.published == [row_id(number, 0).removesuffix("#0") for number in (*range(10, 20), 33)]
    assert (report.missing, report.healed, report.still_missing) == (21, 21, 0)
    assert set(world.rows) == {row_id(number, row) for number in range(MESSAGES) for row in (0, 1)}


def test_a_second_run_finds_nothing_to_do_but_what_came_twice(source: Callable[..., ReconcileRequest]) -> None:
    world = World(source())
    world.lose(row_id(33, 1))
    world.reconcile()
    report = world.reconcile()
    assert world.published == []
    assert (report.missing, report.doubles) == (0, 1)
    assert report.worst == (FaultyMinute(minute=BEGIN + timedelta(minutes=3), key="33", expected=2, doubles=1),)


def test_rows_under_way_are_waited_for_and_not_published_again(source: Callable[..., ReconcileRequest]) -> None:
    world = World(source(settle_seconds=30))
    world.lose(row_id(49, 0), row_id(49, 1))
    world.add(row_id(49, 0), row_id(49, 1), seconds=29)
    assert world.reconcile().missing == 0
    assert world.published == []
    assert world.now == 30


def test_once_rows_have_settled_each_slice_is_asked_for_once(
    source: Callable[..., ReconcileRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rejeu.replay.order.CHUNK_ROWS", 10)
    monkeypatch.setattr(slicing, "SLICE_ROWS", 10)
    world = World(source(settle_seconds=30))
    world.lose(row_id(5, 0), row_id(45, 0))
    assert world.reconcile().healed == 2
    # Five slices, the first of them twice, and two holes until they are filled.
    assert world.asked == 5 + 1 + 2


def test_as_long_as_rows_come_the_rest_is_waited_for(source: Callable[..., ReconcileRequest]) -> None:
    world = World(source(settle_seconds=0, patience_seconds=10), delay=9)
    world.lose(row_id(7, 0), row_id(8, 0), row_id(9, 0))
    assert world.reconcile().healed == 3


def test_what_does_not_come_is_missing_still(source: Callable[..., ReconcileRequest]) -> None:
    world = World(source(settle_seconds=0, patience_seconds=10))
    world.works = False
    world.lose(row_id(7, 0), row_id(8, 0))
    report = world.reconcile()
    assert (report.missing, report.healed, report.still_missing) == (2, 0, 2)
    assert world.now == 10


def test_what_is_awaited_does_not_grow_without_bounds(
    source: Callable[..., ReconcileRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rejeu.replay.order.CHUNK_ROWS", 10)
    monkeypatch.setattr(slicing, "SLICE_ROWS", 10)
    monkeypatch.setattr("beam_jobs.reconcile.AWAITED_ROWS", 5)
    world = World(source(settle_seconds=0))
    world.lose(*list(world.rows))
    assert world.reconcile().healed == ROWS
    assert world.now == 5 * POLL_SECONDS


# What is not missing


def test_a_message_that_the_pipeline_refuses_is_expected_as_a_dead_letter(
    source: Callable[..., ReconcileRequest],
) -> None:
    refused = {3: {"decoded_result": {"calldata": "{", "result": "{}"}}}
    world = World(source(refused))
    letter = row_id(3, 0).removesuffix("#0")
    world.lose(letter)
    world.dead.add(letter)
    report = world.reconcile()
    assert (report.expected, report.found, report.dead_letters, report.missing) == (ROWS - 1, ROWS - 1, 1, 0)


def test_a_row_that_only_its_table_refused_is_no_hole(source: Callable[..., ReconcileRequest]) -> None:
    world = World(source())
    world.lose(row_id(3, 1))
    world.dead.add(row_id(3, 1))
    report = world.reconcile()
    assert (report.missing, report.dead_letters, report.unexpected) == (0, 1, 0)


def test_a_dead_letter_that_nobody_expects_is_no_row_of_the_table(source: Callable[..., ReconcileRequest]) -> None:
    world = World(source())
    world.dead.add(row_id(3, 9))
    report = world.reconcile()
    assert (report.unexpected, report.dead_letters) == (0, 0)


def test_a_message_that_is_filtered_out_is_expected_nowhere(source: Callable[..., ReconcileRequest]) -> None:
    world = World(source({3: {"request": {"oracle_script_id": "1"}}}))
    world.add(row_id(3, 0))
    report = world.reconcile()
    assert (report.expected, report.unexpected) == (ROWS - 2, 1)


def test_rows_that_the_source_does_not_have_are_counted_and_left_alone(
    source: Callable[..., ReconcileRequest],
) -> None:
    world = World(source())
    world.add(row_id(3, 9), "8127349812")
    report = world.reconcile()
    assert (report.unexpected, report.missing) == (2, 0)
    assert {(place.minute, place.key) for place in report.worst} == {(BEGIN, "3"), (None, "8127349812")}


def test_the_worst_places_come_first_and_are_few(source: Callable[..., ReconcileRequest]) -> None:
    world = World(source(settle_seconds=0))
    world.lose(*list(world.rows)[:-2], row_id(MESSAGES - 1, 0))
    world.add(*[row_id(40, 7)] * 3)
    report = world.reconcile()
    assert len(report.worst) == 20
    assert report.worst[0].key == "40"
    assert (report.worst[0].missing, report.worst[0].unexpected, report.worst[0].doubles) == (2, 1, 2)


def test_a_report_says_in_one_line_what_was_found(source: Callable[..., ReconcileRequest]) -> None:
    world = World(source(settle_seconds=0))
    world.lose(row_id(33, 1))
    assert str(world.reconcile()) == (
        "crypto_rates: from 2021-05-01T00:00:00.000000Z to 2021-05-01T00:05:00.000000Z, 5 minutes: 100 rows expected, "
        "99 found (0 as dead letters), 1 missing, 1 healed, 0 still missing, 0 double, 0 unexpected; "
        "2021-05-01T00:03:00.000000Z 33: 1 of 2 missing, 0 double, 0 unexpected"
    )


# Slices


def cut(request: ReconcileRequest, rows: int, monkeypatch: pytest.MonkeyPatch) -> Sequence[Slice]:
    monkeypatch.setattr(slicing, "SLICE_ROWS", rows)
    return list(slices(read_chunks(request.reading, None), to_us(BEGIN), to_us(END)))


@pytest.mark.parametrize("rows", [1, 7, 10, 23, 1_000])
def test_slices_cover_the_whole_time_and_every_message_once(
    source: Callable[..., ReconcileRequest], monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr("rejeu.replay.order.CHUNK_ROWS", 4)
    parts = cut(source(), rows, monkeypatch)
    bounds = [(part.from_us, part.until_us) for part in parts]
    assert [until for _, until in bounds[:-1]] == [begin for begin, _ in bounds[1:]]
    assert (bounds[0][0], bounds[-1][1]) == (to_us(BEGIN), to_us(END))
    assert [us for part in parts for us in part.event_us] == [to_us(at(number)) for number in range(MESSAGES)]
    assert all(part.from_us <= us < part.until_us for part in parts for us in part.event_us)


def test_a_minute_is_parted_only_where_it_is_far_too_large(
    source: Callable[..., ReconcileRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rejeu.replay.order.CHUNK_ROWS", 4)
    whole_minutes = cut(source(), 8, monkeypatch)
    assert all(part.from_us % slicing.MINUTE_US == 0 for part in whole_minutes)
    assert sum(part.minutes for part in whole_minutes) == 5
    assert len(cut(source(), 2, monkeypatch)) > 5


def test_a_source_without_rows_is_one_empty_slice(
    source: Callable[..., ReconcileRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = source()
    (part,) = slices([], to_us(BEGIN), to_us(END))
    assert (len(part.event_us), part.minutes) == (0, 0)
    expected = expect(part, decode_of(request), request.streaming_time, None)
    assert expected.window.written_us == (to_us(BEGIN), to_us(END) - 1)


def test_rows_that_are_written_with_another_time_are_looked_for_there(
    source: Callable[..., ReconcileRequest],
) -> None:
    later = END + timedelta(hours=1)
    seen = {number: {"seen_at": format_instant(later)} for number in range(MESSAGES)}
    request = source(seen, pipeline="passthrough")
    part = Slice.of(list(read_chunks(request.reading, None)), to_us(BEGIN), to_us(END))
    assert expect(part, decode_of(request), "seen_at", None).window.written_us == (to_us(BEGIN), to_us(later))
    assert expect(part, decode_of(request), "never", None).window.written_us is None


# What cannot be compared


def test_a_pipeline_that_makes_rows_of_several_messages_cannot_be_compared(
    source: Callable[..., ReconcileRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_jobs.reconcile.transform_of", lambda request: object())
    columns = Pipeline("nowhere", columns=())
    with registered(PIPELINES, "windows", columns), pytest.raises(RequestError, match="it makes rows of several"):
        decode_of(source(pipeline="windows"))


@pytest.mark.emulated
@pytest.mark.usefixtures("emulators")
def test_a_table_that_is_not_there_is_named_by_its_flag(source: Callable[..., ReconcileRequest]) -> None:
    with pytest.raises(RequestError, match=r"--streaming-table is rejeu-test\.live\.none: there is no such table"):
        BigQueryLook(source(streaming_table="rejeu-test.live.none"))
