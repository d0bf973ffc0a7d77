"""`python -m tests.chaos`: play seeded rounds, show what came of each, write `.rejeu/chaos-replay.json`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich_argparse import RichHelpFormatter

from rejeu.local.processes.interrupts import interruptible
from rejeu.timeline import format_instant
from tests.chaos.plan import Plan, plan
from tests.chaos.round import play
from tests.chaos.verdict import TAKEOVER_SECONDS, Verdict
from tests.emulated.pubsub_feed import COMMANDS, PubSubServer

RESULT: Final = Path(".rejeu/chaos-replay.json")
LEGEND: Final = (
    "doubles: messages beyond the first of each row / how many the fault may have made; silent: seconds from the fault "
    "to the next message, in brackets where nobody stood by or the holder was told to stop. Order is by key, as "
    "delivered, where there are ordering keys; elsewhere it is that of publishing, and rows may overtake each other "
    "within what is under way together."
)

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Played:
    """A round and what came of it; no verdict where it could not be played to its end."""

    plan: Plan
    verdict: Verdict | None
    broken: list[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Play the rounds; 1 where a promise was broken."""
    arguments = parser().parse_args(argv)
    started, before = datetime.now(UTC), os.getloadavg()
    try:
        with interruptible():
            rounds = _play(arguments.seed, arguments.only or range(arguments.rounds))
    except KeyboardInterrupt:
        errors.print("chaos: interrupted", markup=False)
        return 130
    takeovers = [seconds for each in rounds if each.verdict for seconds in each.verdict.takeovers]
    p95 = round(float(np.quantile(takeovers, 0.95)), 3) if takeovers else None
    kept = not any(each.broken for each in rounds) and (p95 is None or p95 <= TAKEOVER_SECONDS)
    document = {
        "started": format_instant(started),
        "load": {"cores": os.cpu_count(), "start": before, "end": os.getloadavg()},
        "seed": arguments.seed,
        "kept": kept,
        "takeovers": len(takeovers),
        "takeover_p95_seconds": p95,
        "rounds": [asdict(each) for each in rounds],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    console.print(table(rounds), LEGEND)
    for each in rounds:
        for words in each.broken:
            console.print(f"Round {each.plan.number}: {words}", markup=False)
    console.print(
        f"{'All promises kept' if kept else 'PROMISES BROKEN'}: {len(rounds)} rounds of seed {arguments.seed}; "
        f"{len(takeovers)} takeovers, p95 {p95} s of {TAKEOVER_SECONDS:g} s allowed. Load {before[0]:.2f} at the "
        f"start, {os.getloadavg()[0]:.2f} at the end, {os.cpu_count()} cores."
    )
    return 0 if kept else 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__, formatter_class=RichHelpFormatter)
    made.add_argument("--rounds", type=int, default=30, help="how many (default: %(default)s)")
    made.add_argument("--seed", type=int, default=1, help="which ones (default: %(default)s)")
    made.add_argument("--only", type=int, nargs="+", metavar="N", help="these rounds of the seed, counted from 0")
    return made


def table(rounds: Sequence[Played]) -> Table:
    """The rounds for a person to read."""
    made = Table(box=box.HORIZONTALS, padding=0)
    for heading in ("", "broker", "fault", "rows/s", "", "lost", "doubles", "silent", "verdict"):
        made.add_column(heading, justify="left" if heading in ("broker", "fault", "verdict") else "right", no_wrap=True)
    for each in rounds:
        made.add_row(*_cells(each.plan), *_figures(each.verdict), "broken" if each.broken else "kept")
    return made


def _cells(planned: Plan) -> list[str]:
    rate = "max" if planned.rate is None else f"{planned.rate:,}"
    return [str(planned.number), planned.broker, planned.fault, rate, "keys" if planned.ordered else ""]


def _figures(verdict: Verdict | None) -> list[str]:
    if verdict is None:
        return [""] * 3
    silent = [f"{each:.1f}" for each in verdict.takeovers] + [f"({each:.1f})" for each in verdict.silences]
    doubles = f"{verdict.doubles:,}/{verdict.allowed:,}"
    return [f"{verdict.lost:,}", doubles, " ".join(silent)]


def _play(seed: int, numbers: Sequence[int]) -> list[Played]:
    with ExitStack() as stack:
        brokers = {}
        for kind in COMMANDS:
            brokers[kind] = PubSubServer(kind)
            brokers[kind].start()
            stack.callback(brokers[kind].kill)
        plans = [plan(seed, number, list(COMMANDS)) for number in numbers]
        return [_one(planned, brokers[planned.broker].address) for planned in plans]


def _one(planned: Plan, broker: str) -> Played:
    number, *what = _cells(planned)
    errors.print(f"Round {number}: {' '.join(what)} ... ", end="", markup=False)
    try:
        verdict = play(planned, broker)
        played = Played(planned, verdict, verdict.broken)
    except TimeoutError as error:
        played = Played(planned, None, [str(error)])
    errors.print("; ".join(played.broken) or "kept", markup=False)
    return played


if __name__ == "__main__":
    sys.exit(main())
