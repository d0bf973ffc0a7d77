"""How a BigQuery table is cut into windows of event time: the SQL for it, and the cutting; nothing is read here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from rejeu.errors import SourceError
from rejeu.replay.source.times import BEYOND_MICROSECONDS, RULE, unit_factor
from rejeu.spec.types import TimeUnit
from rejeu.timeline import format_instant, from_us

BUCKETS: Final = 10_000
"""How finely one histogram divides the time it covers."""
DAY: Final = timedelta(days=1)
TEXT_WITH_ZONE: Final = r"(Z|UTC|[+-]\d\d:\d\d)$"


@dataclass(frozen=True)
class Window:
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
        """What a bound is compared with: the bare column wherever it can be, so that partitions are pruned."""
        column = ".".join(f"`{part}`" for part in self.name.split("."))
        if self.type != "STRING":
            return column
        micros = f"REGEXP_REPLACE({column}, r'{BEYOND_MICROSECONDS}', r'\\1')"
        return f"IF(REGEXP_CONTAINS({column}, r'{TEXT_WITH_ZONE}'), SAFE.TIMESTAMP({micros}), NULL)"

    @property
    def micros(self) -> str:
        """The event time as microseconds since the epoch."""
        if self.type in ("INTEGER", "INT64"):
            return f"{self.expression} * {unit_factor(self.unit, self.name)}"
        if self.type in ("DATE", "DATETIME"):
            return f"UNIX_MICROS(TIMESTAMP({self.expression}))"
        return f"UNIX_MICROS({self.expression})"

    def within(self, from_us: int | None, until_us: int | None) -> str:
        """The condition that selects this window; empty where it has no bounds."""
        lower = [] if from_us is None else [f"{self.expression} >= {self._literal(from_us)}"]
        upper = [] if until_us is None else [f"{self.expression} < {self._literal(until_us)}"]
        return " AND ".join(lower + upper)

    def _literal(self, us: int) -> str:
        """The first value of the column's type that is not before this instant: right for both kinds of bounds."""
        match self.type:
            case "TIMESTAMP" | "STRING":
                return f"TIMESTAMP '{format_instant(from_us(us))}'"
            case "DATETIME":
                return f"DATETIME '{format_instant(from_us(us)).removesuffix('Z')}'"
            case "DATE":
                return f"DATE '{(from_us(us) + DAY - timedelta(microseconds=1)).date().isoformat()}'"
            case "INTEGER" | "INT64":
                return str(-(-us // unit_factor(self.unit, self.name)))
        raise SourceError(f"{self.name} is {self.type}: {RULE}; convert it in a query")


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


def windows(buckets: Iterable[Window], target_rows: int) -> Iterator[Window]:
    """Neighbouring buckets put together until a window holds about `target_rows`; time without rows is left out."""
    current: Window | None = None
    for bucket in buckets:
        if current is not None and current.rows + bucket.rows <= target_rows:
            current = Window(current.from_us, bucket.until_us, current.rows + bucket.rows)
            continue
        if current is not None:
            yield current
        current = bucket
    if current is not None:
        yield current
