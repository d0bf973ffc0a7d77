"""Days of made-up data for the example streams: raw files where the batch looks, and what is replayed after them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from rejeu.local.demos.registry import DEMOS, data_of
from rejeu.spec.files import Loaded
from rejeu.spec.model import StreamSpec
from rejeu.target import Target


def due_day(now: datetime) -> date:
    """The day that the batch DAG's newest scheduled run is about: schedule `0 1 * * *`, the day before."""
    return (now - timedelta(hours=25)).date()


def seed(spec: StreamSpec, target: Target, days: int = 1, now: datetime | None = None) -> list[date]:
    """Write so many days, the oldest first, and what follows the last; returns them.

    A day that is there already is written again, the same. Raises StackError where the stream is no example.
    """
    kind, last = data_of(spec.stream), due_day(now or datetime.now(UTC))
    written = [last - timedelta(days=back) for back in reversed(range(days))]
    for day in written:
        kind(spec, target, day).write_history()
    kind(spec, target, last).write_source()
    return written


def seed_examples(specs: Iterable[Loaded], target: Target) -> date:
    """The newest day of every stream that is an example; the others' data is their owners' affair."""
    now = datetime.now(UTC)
    for loaded in specs:
        if loaded.spec is not None and loaded.spec.stream in DEMOS:
            seed(loaded.spec, target, now=now)
    return due_day(now)
