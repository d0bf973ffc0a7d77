"""What a job counts: messages in, rows out, dead letters, duplicates, messages filtered out, late rows."""

from __future__ import annotations

from collections import Counter
from typing import Final

from apache_beam.metrics import Metrics

NAMES: Final = ("in", "out", "dead", "duplicate", "filtered", "late")

_here: Final = Counter[tuple[str, str]]()


class Count:
    """A Beam counter that also counts in this process.

    Dataflow shows Beam's own counter; on the streaming DirectRunner that has each step's first bundle only, because the
    state sampler keeps that bundle's container. Count elements once a bundle, not one by one: a call to Beam takes as
    long as passing on a row.
    """

    def __init__(self, stream: str, name: str) -> None:
        self._key = (stream, name)
        self._beam = Metrics.counter(stream, name)

    def add(self, amount: int = 1) -> None:
        self._beam.inc(amount)
        _here[self._key] += amount


def counted_here(stream: str) -> str:
    """What this process has counted, retries included: `in 3, out 20, dead 1, …`."""
    return ", ".join(f"{name} {_here[stream, name]}" for name in NAMES)
