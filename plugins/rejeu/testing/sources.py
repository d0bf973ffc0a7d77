"""The rules that every source keeps, as a class of tests for a source's author: the same rows, wherever one begins.

class TestMine(SourceContract):
    @pytest.fixture
    def source(self) -> Fields:
        return {"reader": "mine", "options": {"folder": "tests/data"}, "event_time": "at", "key": ("id",)}
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rejeu import extensions
from rejeu.jobs.request import ReplayRequest
from rejeu.spec.columns import Column
from rejeu.timeline import Position, format_instant, from_us

Fields = Mapping[str, Any]
"""A source, as fields of ReplayRequest: what names it, `event_time`, `key`; `until` where it would go on for ever."""
Rows = list[tuple[int, str, bytes]]
"""Event time in microseconds, row id, and body of each row."""

ENOUGH: Final = 10
"""So many rows are needed to tell that a place between them is kept."""
READ: Final = """
import sys
from rejeu.jobs.request import ReplayRequest
from rejeu.testing.sources import read_source
print(repr(read_source(ReplayRequest.from_argv(sys.argv[1:]))))
"""


def read_source(request: ReplayRequest, start: Position | None = None) -> Rows:
    """The rows behind a position, as a replay publishes them."""
    from rejeu.replay.reading import read_chunks

    return [
        row
        for chunk in read_chunks(request, start)
        for row in zip(chunk.event_us.tolist(), chunk.row_ids.to_pylist(), chunk.data.to_pylist(), strict=True)
    ]


class SourceContract:
    """Subclass it, and give a fixture `source` of at least ten rows at three instants or more."""

    def test_its_rows_come_by_time_and_each_has_an_id_of_its_own(self, source: Fields) -> None:
        rows = self._read(source)
        times = [event_us for event_us, _, _ in rows]
        assert len(rows) >= ENOUGH, "give it more rows, or a later `until`"
        assert len(set(times)) >= 3, "give it rows at three instants or more"
        assert times == sorted(times)
        assert len({row_id for _, row_id, _ in rows}) == len(rows)

    def test_it_gives_the_same_rows_again(self, source: Fields) -> None:
        assert self._read(source) == self._read(source)

    def test_another_process_gets_the_same_rows(self, source: Fields) -> None:
        told = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "7"}
        read = subprocess.run(
            [sys.executable, "-c", READ, *self._request(source).to_argv()],
            env=os.environ | told | extensions.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert read.returncode == 0, read.stderr
        assert read.stdout.strip() == repr(self._read(source)), (
            "its rows follow from more than its options and its data"
        )

    def test_it_can_begin_at_any_instant(self, source: Fields) -> None:
        rows = self._read(source)
        for event_us in _some([event_us for event_us, _, _ in rows]):
            for begin_us in (event_us, event_us + 1):
                expected = [row for row in rows if row[0] >= begin_us]
                assert self._read(source, Position(begin_us)) == expected

    def test_it_goes_on_behind_any_row(self, source: Fields) -> None:
        rows = self._read(source)
        for done in _some(range(1, len(rows) + 1)):
            last_us = rows[done - 1][0]
            position = Position(last_us, sum(event_us == last_us for event_us, _, _ in rows[:done]))
            assert self._read(source, position) == rows[done:]

    def test_it_ends_before_until(self, source: Fields) -> None:
        rows = self._read(source)
        for event_us in _some([event_us for event_us, _, _ in rows]):
            until = format_instant(from_us(event_us))
            assert self._read({**source, "until": until}) == [row for row in rows if row[0] < event_us]

    def test_its_rows_fit_the_columns_that_it_says(self, source: Fields) -> None:
        from beam_jobs.transforms.validate import fault_finder

        columns = columns_of(self._request(source))
        if columns is None:
            return
        fault_of = fault_finder(columns)
        assert [fault for _, _, body in self._read(source) if (fault := fault_of(json.loads(body)))] == []

    def _read(self, source: Fields, start: Position | None = None) -> Rows:
        return read_source(self._request(source), start)

    def _request(self, source: Fields) -> ReplayRequest:
        return ReplayRequest.of(**{"topic": "projects/tried/topics/tried", "stream": "tried"} | dict(source))


def columns_of(request: ReplayRequest) -> Sequence[Column] | None:
    """What the source says of its columns; None where only BigQuery, or nobody, knows."""
    from rejeu.bigquery.columns import from_arrow
    from rejeu.replay.source.files import file_schema
    from rejeu.replay.source.generated import open_generator
    from rejeu.replay.source.reader import open_reader

    if request.generator is not None:
        return open_generator(request.generator).columns
    if request.reader is not None:
        return open_reader(request.reader, request.options.root).columns()
    return None if request.file is None else from_arrow(file_schema(request.file, request.project))


def _some(places: Sequence[int]) -> list[int]:
    """The first of these, the last, and some between."""
    return sorted({places[len(places) * part // 4] for part in range(4)} | {places[-1]})
