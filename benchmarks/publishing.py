"""The speed of each way to publish on each server, in interleaved rounds."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.table import Table

from benchmarks.feed import Feed
from benchmarks.measure import Sample, Stopwatch, Summary, summarise
from benchmarks.section import Options, Result, figures_table, steps
from benchmarks.servers import Server, commands, running
from benchmarks.subjects import CEILING, CLIENT, SUBJECTS, ceiling

WARM_UPS: Final = 5
"""Runs of the fastest subject on each server that are not counted: Google's emulator compiles itself while it runs."""
LEGEND: Final = (
    "Medians; ± is half of the difference between the fastest run and the slowest; the ratios are to the ceiling and "
    f"to {CLIENT} in the same round; µs are CPU time a message, of the publisher's whole process, and of the server's."
)


def publishing(options: Options) -> Result:
    """Run each chosen subject on each chosen server."""
    samples = _measure(options)
    summaries = summarise(samples, (CEILING, CLIENT))
    legend = f"Publishing {options.messages:,} messages, {options.rounds} rounds. {LEGEND}"
    figures = {"summaries": [asdict(each) for each in summaries], "samples": [asdict(each) for each in samples]}
    return Result(table(summaries), legend, figures)


def chosen(known: Iterable[str], only: Sequence[str]) -> list[str]:
    """The known names that are in `only`; all of them if none is."""
    names = list(known)
    return [name for name in names if name in only] or names


def table(summaries: Sequence[Summary]) -> Table:
    """The summaries for a person to read."""
    made = figures_table(2, "server", "subject", "messages/s", "±", "/ceiling", "/tuned", "CPU µs", "server µs")
    for at, each in enumerate(summaries):
        last = at + 1 == len(summaries) or summaries[at + 1].server != each.server
        made.add_row(
            each.server,
            each.subject,
            f"{each.rate:,.0f}",
            f"{(each.fastest - each.slowest) / 2 / each.rate:.0%}",
            *(f"{each.ratios[name]:.2f}" if name in each.ratios else "–" for name in (CEILING, CLIENT)),
            f"{each.cpu_us:.1f}",
            f"{each.server_cpu_us:.1f}",
            end_section=last,
        )
    return made


def _measure(options: Options) -> list[Sample]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rejeu-bench-"))
        feed = Feed.make(Path(folder), options.messages)
        gc.freeze()  # prepared objects must not slow down the garbage collector
        servers = [stack.enter_context(running(name)) for name in chosen(commands(), options.only)]
        for server in servers:
            server.select()
            for _ in range(WARM_UPS):
                ceiling(feed, Stopwatch(server.process))
        subjects = chosen(SUBJECTS, options.only)
        runs = [(server, subject) for _ in range(options.rounds) for server in servers for subject in subjects]
        return [_run(server, subject, feed) for server, subject in steps("Publishing", runs)]


def _run(server: Server, subject: str, feed: Feed) -> Sample:
    server.select()
    gc.collect()
    watch = Stopwatch(server.process)
    acknowledged = SUBJECTS[subject](feed, watch)
    return Sample(server.name, subject, acknowledged, watch.seconds, watch.cpu_seconds, watch.server_cpu_seconds)
