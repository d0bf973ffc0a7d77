"""The rules of sources are broken by sources that break them, and not by one that keeps them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from rejeu.errors import SourceError
from rejeu.replay.source.reader import Reader
from rejeu.spec.columns import Column
from rejeu.spec.sources import SOURCES, SourceKind
from rejeu.testing import registered
from rejeu.testing.sources import Fields, SourceContract
from rejeu.timeline import to_us

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SOURCE: Fields = {"reader": "tried", "event_time": "at", "key": ("n",)}
RULES = sorted(name for name in dir(SourceContract) if name.startswith("test_") and "another_process" not in name)


class Good(Reader):
    """Twenty rows, two a second."""

    kind: ClassVar[str] = "INT64"

    def columns(self) -> Sequence[Column]:
        return (Column("at", "TIMESTAMP"), Column("n", self.kind))

    def tables(self, from_us: int | None, until_us: int | None) -> Iterator[pa.Table]:
        for begin in range(0, 20, 5):
            yield _table(map(self.row, range(begin, begin + 5)))

    def row(self, n: int) -> dict[str, Any]:
        return {"at": NOON + timedelta(seconds=n // 2), "n": n}


class Moody(Good):
    def row(self, n: int) -> dict[str, Any]:
        return super().row(n) | {"n": random.random()}


class Backwards(Good):
    def row(self, n: int) -> dict[str, Any]:
        return {"at": NOON - timedelta(seconds=n), "n": n}


class OfItsOwnMind(Good):
    """Which counts from where it begins."""

    def tables(self, from_us: int | None, until_us: int | None) -> Iterator[pa.Table]:
        rows = [row for row in map(self.row, range(20)) if from_us is None or to_us(row["at"]) >= from_us]
        yield _table({**row, "n": number} for number, row in enumerate(rows))


class OfOtherColumns(Good):
    kind = "BOOL"


def _table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows))


def broken(reader: type[Reader]) -> set[str]:
    """The rules that this source does not keep."""
    found = set()
    with registered(SOURCES, "tried", SourceKind(reader)):
        for rule in RULES:
            try:
                getattr(SourceContract(), rule)(SOURCE)
            except (AssertionError, SourceError):
                found.add(rule)
    return found


def test_a_good_source_keeps_them_all() -> None:
    assert broken(Good) == set()


@pytest.mark.parametrize(
    ("reader", "rule"),
    [
        (Moody, "test_it_gives_the_same_rows_again"),
        (Backwards, "test_its_rows_come_by_time_and_each_has_an_id_of_its_own"),
        (OfItsOwnMind, "test_it_can_begin_at_any_instant"),
        (OfItsOwnMind, "test_it_goes_on_behind_any_row"),
        (OfOtherColumns, "test_its_rows_fit_the_columns_that_it_says"),
    ],
)
def test_a_bad_one_breaks_the_rule_that_is_meant(reader: type[Reader], rule: str) -> None:
    assert rule in broken(reader)
