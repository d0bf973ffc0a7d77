"""What `rejeu new` tells on the terminal: what it saw, what it guessed and why; the guesses are not made here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rejeu.new.guess import EventTime, Key, Refused
from rejeu.new.sample import Sample
from rejeu.spec.columns import Column
from rejeu.timeline import format_instant

REFUSED_SHOWN: Final = 6


def explain(sample: Sample, time: EventTime, key: Key) -> Iterator[str]:
    """Lines for a person, each one statement."""
    of = f" of {sample.total:,}" if sample.total is not None else ""
    yield f"saw {sample.rows.num_rows:,}{of} rows, from {format_instant(time.first)} to {format_instant(time.last)}"
    yield f"columns: {', '.join(map(_described, sample.columns))}"
    unit = f" ({time.unit})" if time.unit else ""
    yield f"event time: {time.name}{unit}: {'; '.join(time.reasons)}"
    yield from _refusals(time.refused)
    yield f"key: {', '.join(key.names) or 'the whole row'}: {key.reason}"
    yield from _refusals(key.refused)


def _described(column: Column) -> str:
    return f"{column.name} {column.type}" + (" (repeated)" if column.mode == "REPEATED" else "")


def _refusals(refused: Sequence[Refused]) -> Iterator[str]:
    for each in refused[:REFUSED_SHOWN]:
        yield f"  not {each.name}: {each.why}"
    if len(refused) > REFUSED_SHOWN:
        yield f"  nor {len(refused) - REFUSED_SHOWN} more"
