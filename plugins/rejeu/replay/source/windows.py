"""How a BigQuery table is cut into windows of event time: the SQL for it, and the cutting; nothing is read here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from rejeu.bigquery import types
from rejeu.errors import SourceError
from rejeu.replay.source.times import MICROSECONDS, RULE, known_unit
from rejeu.spec.types import TimeUnit

BUCKETS: Final = 10_000
"""How finely one histogram divides the time it covers."""


@dataclass(frozen=True)
class TimeSpan:
    """Event times from `from_us`, inclusive, to `until_us`, exclusive, and how many rows they hold."""

    from_us: int
    until_us: int
    rows: int


@dataclass(frozen=True)
class TimeColumn:
    """An event-time column as BigQuery's SQL sees it. `type` is BigQuery's, in either of its spellings."""

    name: str
    type: str
    unit: TimeUnit | None

    @property
    def expression(self) -> str:
        """What a bound is compared with."""
        return self._sql.expression(".".join(f"`{part}`" for part in self.name.split(".")))

    @property
    def micros(self) -> str:
        """The event time as microseconds since the epoch."""
        return self._sql.micros(self.expression, self._unit_us)

    def within(self, from_us: int | None, until_us: int | None) -> str:
        """The condition that selects this window; empty where it has no bounds."""
        lower = [] if from_us is None else [f"{self.expression} >= {self._literal(from_us)}"]
        upper = [] if until_us is None else [f"{self.expression} < {self._literal(until_us)}"]
        return " AND ".join(lower + upper)

    def _literal(self, us: int) -> str:
        """The first value of the column's type that is not before this instant: right for both kinds of bounds."""
        return self._sql.bound(us, self._unit_us)

    @property
    def _sql(self) -> types.TimeSql:
        kind = types.find(self.type)
        if kind is None or kind.time is None:
            raise SourceError(f"{self.name} is {self.type}: {RULE}; convert it in a query")
        return kind.time

    @property
    def _unit_us(self) -> int:
        return MICROSECONDS[known_unit(self.unit, self.name)] if self._sql.needs_unit else 1


def histogram(table: str, time: TimeColumn, from_us: int | None, until_us: int | None) -> str:
    """SQL that counts rows in BUCKETS equal parts of the time they cover; a NULL bucket counts rows without one.

    Columns: first_us, step_us, bucket, row_count. Differences have names of their own because the emulator drops
    the parentheses in DIV(a - b, c).
    """
    window = time.within(from_us, until_us)
    where = f"WHERE {window} OR {time.expression} IS NULL" if window else ""
    return f"""
        WITH times AS (SELECT {time.micros} AS us FROM `{table}` {where}),
        bounds AS (SELECT MIN(us) AS first_us, MAX(us) - MIN(us) AS span_us FROM times),
        steps AS (SELECT first_us, DIV(span_us, {BUCKETS}) + 1 AS step_us FROM bounds),
        ages AS (SELECT first_us, step_us, us - first_us AS age_us FROM times CROSS JOIN steps)
        SELECT first_us, step_us, DIV(age_us, step_us) AS bucket, COUNT(*) AS row_count
        FROM ages GROUP BY first_us, step_us, bucket ORDER BY bucket"""


def windows(buckets: Iterable[TimeSpan], target_rows: int) -> Iterator[TimeSpan]:
    """Neighbouring buckets put together until a window holds about `target_rows`; time without rows is left out."""
    current: TimeSpan | None = None
    for bucket in buckets:
        if current is not None and current.rows + bucket.rows <= target_rows:
            current = TimeSpan(current.from_us, bucket.until_us, current.rows + bucket.rows)
            continue
        if current is not None:
            yield current
        current = bucket
    if current is not None:
        yield current
