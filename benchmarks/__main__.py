"""`python -m benchmarks`: measure what is asked for in interleaved rounds, show a table, write `.rejeu/bench.json`."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich_argparse import RichHelpFormatter

from benchmarks.feed import Feed
from benchmarks.measure import Sample, Stopwatch, Summary, summarise
from benchmarks.publishing import BASELINE, SUBJECTS, ceiling
from benchmarks.servers import Server, commands, running
from rejeu.errors import RejeuError
from rejeu.local.interrupts import interruptible
from rejeu.timeline import format_instant

RESULT: Final = Path(".rejeu/bench.json")
WARM_UPS: Final = 5
"""Uncounted runs of the fastest subject on each server: Google's emulator compiles itself while it runs."""

LEGEND: Final = (
    f"Medians; ± is half of what lies between the slowest run and the fastest; the ratio is to {BASELINE} in the same "
    "round; µs are CPU time for each message, of whole processes: the publisher's, and the server's."
)

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks; the exit codes are those of `rejeu.errors`."""
    arguments = parser().parse_args(argv)
    before, started = os.getloadavg(), datetime.now(UTC)
    try:
        with interruptible():
            samples = _measure(arguments.messages, arguments.rounds, arguments.only)
    except RejeuError as error:
        errors.print(f"bench: {error}", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        errors.print("bench: interrupted", markup=False)
        return 130
    summaries = summarise(samples, BASELINE)
    load = f"Load {before[0]:.2f} at the start, {os.getloadavg()[0]:.2f} at the end, on {os.cpu_count()} cores."
    console.print(table(summaries, f"{arguments.messages:,} messages, {arguments.rounds} rounds. {load} {LEGEND}"))
    document = {
        "started": format_instant(started),
        "load": {"start": before, "end": os.getloadavg(), "cores": os.cpu_count()},
        "baseline": BASELINE,
        "summaries": [asdict(each) for each in summaries],
        "samples": [asdict(each) for each in samples],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=RichHelpFormatter)
    made.add_argument("--rounds", type=_positive, default=3, help="runs of each subject (default: %(default)s)")
    made.add_argument("--messages", type=_positive, default=100_000, help="messages a run (default: %(default)s)")
    made.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=[*SUBJECTS, *commands()],
        metavar="NAME",
        help="these subjects, these servers, or both: %(choices)s",
    )
    return made


def chosen(known: Iterable[str], only: Sequence[str]) -> list[str]:
    """The known names that are asked for; all of them where none is."""
    names = list(known)
    return [name for name in names if name in only] or names


def table(summaries: Sequence[Summary], caption: str) -> Table:
    """The summaries for a person to read."""
    made = Table(caption=caption, caption_justify="left")
    made.add_column("server")
    made.add_column("subject")
    for heading in ("messages/s", "±", "ratio", "CPU µs", "server µs"):
        made.add_column(heading, justify="right")
    for at, each in enumerate(summaries):
        last = at + 1 == len(summaries) or summaries[at + 1].server != each.server
        made.add_row(
            each.server,
            each.subject,
            f"{each.rate:,.0f}",
            f"{(each.fastest - each.slowest) / 2 / each.rate:.0%}",
            "–" if each.ratio is None else f"{each.ratio:.2f}",
            f"{each.cpu_us:.1f}",
            f"{each.server_cpu_us:.1f}",
            end_section=last,
        )
    return made


def _measure(messages: int, rounds: int, only: Sequence[str]) -> list[Sample]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rejeu-bench-"))
        feed = Feed.make(Path(folder), messages)
        gc.freeze()  # what is prepared must not slow the collector down, whichever subject runs
        servers = [stack.enter_context(running(name)) for name in chosen(commands(), only)]
        for server in servers:
            server.select()
            for _ in range(WARM_UPS):
                ceiling(feed, Stopwatch(server.process))
        subjects = chosen(SUBJECTS, only)
        runs = [(server, subject) for _ in range(rounds) for server in servers for subject in subjects]
        return [_run(server, subject, feed) for server, subject in track(runs, "Measuring", console=errors)]


def _run(server: Server, subject: str, feed: Feed) -> Sample:
    server.select()
    gc.collect()
    watch = Stopwatch(server.process)
    acknowledged = SUBJECTS[subject](feed, watch)
    return Sample(server.name, subject, acknowledged, watch.seconds, watch.cpu_seconds, watch.server_cpu_seconds)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"it is {text}: it must be 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
