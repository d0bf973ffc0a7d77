"""What a demo's numbers mean, in sentences; what they are is the demo's own to find out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rejeu.local.demos.registry import data_of
from rejeu.local.demos.result import Result


def explain(result: Result) -> Iterator[str]:
    """A sentence or two for each number that surprises."""
    yield from _rows(result)
    yield _epoch(result)
    yield _gap(result)
    yield f"The first message came {result.handover_seconds:g} s after the end of the batch, from the very next row on."


def _rows(result: Result) -> Iterator[str]:
    each = result.streamed_rows / result.source_rows if result.source_rows else 0.0
    yield (
        f"The replay published {result.source_rows:,} rows of the source, one message each; the streaming job wrote "
        f"{result.streamed_rows:,} rows, {each:.2g} for a message. {data_of(result.stream).becomes}"
    )
    yield (
        f"The live view must hold {result.expected_rows:,} rows, which SQL computed from the source alone: the day of "
        f"the batch ({result.batch_rows:,}) and what was streamed after it, each once."
    )
    if result.dead_letters:
        yield f"{result.dead_letters:,} messages are of no use to the pipeline: they are kept as dead letters."


def _epoch(result: Result) -> str:
    if result.epoch == 3:
        return (
            "Epoch 3: the first replay published under 1. The watchdog took 2, so that the killed one could not go on "
            "if it still lived. Its successor has 3."
        )
    return f"Epoch {result.epoch}: each replay takes the next number, each repair one more to shut the old one out."


def _gap(result: Result) -> str:
    told = result.killed_at, result.detected_at, result.relaunched_at, result.resumed_at
    killed, detected, relaunched, resumed = map(datetime.fromisoformat, told)
    seen, started, flowed = (
        (after - before).total_seconds()
        for before, after in ((killed, detected), (detected, relaunched), (relaunched, resumed))
    )
    return (
        f"The gap of {result.gap_seconds:g} s: {seen:.1f} s until rows were due for so long that it was a silence, "
        f"{started:.1f} s until Airflow had started another replay, {flowed:.1f} s until its first row arrived."
    )
