"""Which column of a sample says when a row happened, which ones name it, and why; pure, nothing is read here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import combinations
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from rejeu.bigquery import types
from rejeu.errors import SourceError
from rejeu.new.sample import Sample
from rejeu.replay.source.times import MICROSECONDS
from rejeu.spec.columns import Column
from rejeu.spec.types import COLUMN, TimeUnit
from rejeu.timeline import from_us, to_us

TIME_WORDS: Final = frozenset({"timestamp", "timestamps", "time", "datetime", "date", "ts", "at", "when"})
EVENT_WORDS: Final = frozenset({"event", "occurred", "happened", "created", "block", "observed", "measured", "record"})
OTHER_WORDS: Final = frozenset(
    {"updated", "modified", "inserted", "ingested", "loaded", "processed", "published", "deleted", "expires", "ended"}
    | {"previous", "first", "last", "end", "valid"}
)
"""What happens to a row after it happened, or before."""
IN_ORDER: Final = "the rows seen are in its order"
PLAUSIBLE: Final = (to_us(datetime(1990, 1, 1, tzinfo=UTC)), to_us(datetime(2100, 1, 1, tzinfo=UTC)))
NAMING_WORDS: Final = frozenset({"id", "ids", "uuid", "guid", "key", "number", "hash", "code"})
KEY_COLUMNS: Final = 3
KEY_CHOICES: Final = 8
"""Of so many columns, every one to three are tried together."""
SHORT_TEXT: Final = 64


@dataclass(frozen=True)
class EventTime:
    """A column by which the rows can be replayed; `first` and `last` are those of the sample."""

    name: str
    type: str
    unit: TimeUnit | None
    first: datetime
    last: datetime
    reasons: tuple[str, ...]
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True)
class Key:
    """Columns that name a row, none where the whole row does."""

    names: tuple[str, ...]
    reason: str
    refused: tuple[Refused, ...] = ()


class Refused(NamedTuple):
    """A choice that was not taken."""

    name: str
    why: str


def find_event_time(sample: Sample) -> EventTime:
    """The likeliest column. Raises SourceError where no column will do, and says why none does."""
    if sample.rows.num_rows == 0:
        raise SourceError("the source has no rows: nothing tells its event time; fill it, or name another one")
    judged = [each for column in sample.columns if (each := _judge(sample, column)) is not None]
    candidates = [each for each in judged if isinstance(each, EventTime)]
    refused = [each for each in judged if isinstance(each, Refused)]
    if not candidates:
        told = "; ".join(f"{each.name}: {each.why}" for each in refused) or _told_of_nested(sample.columns)
        remedy = "give the rows a TIMESTAMP of their own, in a view or in the file"
        raise SourceError(f"no column says when a row happened ({told}): a replay goes by it; {remedy}")
    best = max(candidates, key=lambda each: _likelihood(sample, each))
    refused += [Refused(each.name, f"{best.name} is likelier") for each in candidates if each is not best]
    return replace(best, refused=tuple(refused))


def find_key(sample: Sample, time: EventTime) -> Key:
    """The fewest columns that tell the sample's rows apart, by themselves or among rows of one instant."""
    columns = [column for column in sample.columns if _may_name(sample, column, time)]
    # Numbers count more often than they name.
    names = [column.name for column in sorted(columns, key=lambda column: column.type != "STRING")]
    naming = [name for name in names if _is_naming(name)]
    refused: list[Refused] = []
    for name in naming:
        if (shared := _shared(sample, [name])) == 0:
            return Key((name,), f"no two of {sample.rows.num_rows:,} rows have it in common", tuple(refused))
        refused.append(Refused(name, f"{shared:,} rows have it in common with another"))
    told_apart = [name for name in naming if pc.count_distinct(sample.values(name)).as_py() > 1]
    choices = [*told_apart, *(name for name in names if name not in naming and _is_category(sample.values(name)))]
    for size in range(1, KEY_COLUMNS + 1):
        for some in combinations(choices[:KEY_CHOICES], size):
            if (set(some) & set(naming) or not naming) and _shared(sample, [time.name, *some]) == 0:
                left = tuple(each for each in refused if each.name not in some)
                return Key(some, f"no two of {sample.rows.num_rows:,} rows have it at one instant", left)
    return Key((), "no columns tell all rows apart, so the whole row names itself", tuple(refused))


def _likelihood(sample: Sample, time: EventTime) -> tuple[bool, bool, int, int, bool]:
    partitions = sample.partitioned_by == time.name
    named = _named_like_a_time(time.name)
    sql = _time_sql(time.type)
    assert sql is not None
    return not sql.whole_days, partitions, named, -sql.rank, IN_ORDER in time.reasons


def _time_sql(name: str) -> types.TimeSql | None:
    """None for a type that no event time may have."""
    kind = types.find(name)
    return kind.time if kind else None


def _judge(sample: Sample, column: Column) -> EventTime | Refused | None:
    """None for a column that nobody would take for a time."""
    named = _named_like_a_time(column.name)
    sql = _time_sql(column.type)
    if sql is None or column.mode == "REPEATED" or (named == 0 and sql.needs_unit):
        return None
    try:
        return _read(sample, column)
    except SourceError as error:
        return Refused(column.name, str(error)) if named or column.type != "STRING" else None


def _read(sample: Sample, column: Column) -> EventTime:
    """Raises SourceError, in few words, where the replay cannot go by this column."""
    if re.fullmatch(COLUMN, column.name) is None:
        raise SourceError("a spec names columns of letters, digits and underscores only")
    values = sample.values(column.name)
    if values.null_count:
        raise SourceError(f"{values.null_count:,} of {len(values):,} rows have none")
    sql = _time_sql(column.type)
    unit = _unit(values) if sql and sql.needs_unit else None
    try:
        times = sample.times(column.name, unit)
    except SourceError:
        raise SourceError("not every row has an ISO 8601 time with a zone in it") from None
    span = pc.min_max(times)
    return EventTime(
        column.name,
        column.type,
        unit,
        from_us(span["min"].as_py()),
        from_us(span["max"].as_py()),
        tuple(_reasons(sample, column, unit, times)),
    )


def _reasons(sample: Sample, column: Column, unit: TimeUnit | None, times: pa.ChunkedArray) -> Iterator[str]:
    if _named_like_a_time(column.name) > 1:
        yield "its name says so"
    yield f"{column.type}, plausible as {_UNITS[unit]} since 1970" if unit else column.type
    yield "no row is without it"
    if sample.partitioned_by == column.name:
        yield "the table is partitioned by it"
    combined = times.combine_chunks()
    if pc.count_distinct(combined).as_py() > 1 and pc.all(pc.less_equal(combined[:-1], combined[1:])).as_py():
        yield IN_ORDER


_UNITS: Final[dict[TimeUnit | None, str]] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}


def _unit(values: pa.ChunkedArray) -> TimeUnit:
    """Raises SourceError where no unit makes these times of our age."""
    first, last = pc.min_max(values).as_py().values()
    for unit, factor in MICROSECONDS.items():
        if PLAUSIBLE[0] <= first * factor and last * factor < PLAUSIBLE[1]:
            return unit
    if PLAUSIBLE[0] <= first // 1_000 and last // 1_000 < PLAUSIBLE[1]:
        raise SourceError("its nanoseconds are finer than a replay reads: divide them by 1,000 in a view")
    raise SourceError("as seconds, milliseconds or microseconds it is not within 1990 to 2100")


def _named_like_a_time(name: str) -> int:
    """0 where nothing in the name says time, 1 where it is that of another event, 3 where it is the event's own."""
    words = set(_words(name))
    if not words & TIME_WORDS:
        return 0
    if words & OTHER_WORDS:
        return 1
    return 3 if words <= TIME_WORDS | EVENT_WORDS else 2


def _is_naming(name: str) -> bool:
    last = _words(name)[-1]
    return last in NAMING_WORDS or (last.endswith("id") and len(last) > 4)


def _words(name: str) -> list[str]:
    """`eventTime` and `event_time` are both event and time."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)] or [name]


def _may_name(sample: Sample, column: Column, time: EventTime) -> bool:
    kind = types.find(column.type)
    return (
        kind is not None
        and kind.is_name
        and column.mode != "REPEATED"
        and column.name != time.name
        and _named_like_a_time(column.name) == 0
        and re.fullmatch(COLUMN, column.name) is not None
        and sample.values(column.name).null_count == 0
        and (_is_naming(column.name) or column.type == "STRING")
    )


def _is_category(values: pa.ChunkedArray) -> bool:
    """Whether these texts are names that come again, and no free text."""
    comes_again = pc.count_distinct(values).as_py() * 2 <= len(values)
    return comes_again and max(map(len, values.to_pylist())) <= SHORT_TEXT


def _shared(sample: Sample, names: Sequence[str]) -> int:
    """How many rows have the same values here as a row before them."""
    # Arrow's own group_by imports pandas, which would be a third of the command's time.
    numbered = [sample.values(name).combine_chunks().dictionary_encode().indices.to_pylist() for name in names]
    return int(sample.rows.num_rows) - len(set(zip(*numbered, strict=True)))


def _told_of_nested(columns: Sequence[Column]) -> str:
    nested = [
        f"{column.name}.{inner.name}" for column in columns for inner in column.fields if _named_like_a_time(inner.name)
    ]
    known = ", ".join(column.name for column in columns)
    return f"within records there is {', '.join(nested)}" if nested else f"there are {known}"
