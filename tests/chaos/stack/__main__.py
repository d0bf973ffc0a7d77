"""`python -m tests.chaos.stack`: kill every part of a real stack in seeded rounds; write `.rejeu/chaos.{json,png}`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich_argparse import RichHelpFormatter

from rejeu.local.processes.interrupts import interruptible
from tests.chaos.stack.calm import broken_calm, rest
from tests.chaos.stack.chart import draw
from tests.chaos.stack.mishaps import happen
from tests.chaos.stack.plan import Mishap, Round, plan_calm, plan_rounds
from tests.chaos.stack.result import Calm, Happened, Machine, Played, Pulse, Result, Summary
from tests.chaos.stack.rounds import FAILURES, play
from tests.chaos.stack.scene import Say, Scene, staged
from tests.chaos.stack.tap import Arrival
from tests.chaos.stack.truth import Truth
from tests.chaos.stack.verdict import broken_limits

FOLDER: Final = Path(".rejeu")
HOME: Final = FOLDER / "chaos"

console = Console(highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Play it all; 1 where a promise was broken."""
    arguments = parser().parse_args(argv)
    begun, load = time.monotonic(), os.getloadavg()[0]
    rounds = plan_rounds(arguments.seed, arguments.kills)
    chosen = [each for each in rounds if arguments.only is None or each.number in arguments.only]

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - begun:7.1f} s  {text}", markup=False, soft_wrap=True)

    try:
        with interruptible(), staged(HOME.resolve(), arguments.seed, say) as scene:
            result = _play(scene, arguments, chosen, load, say)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    result.write(FOLDER / "chaos.json")
    draw(result, FOLDER / "chaos.png")
    _show(result)
    return 0 if result.kept else 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m tests.chaos.stack", description=__doc__, formatter_class=RichHelpFormatter
    )
    made.add_argument("--seed", type=int, default=1, help="which rounds (default: %(default)s)")
    made.add_argument("--kills", type=int, default=20, help="of the replay alone; the rest in proportion (%(default)s)")
    made.add_argument("--calm-minutes", type=float, default=15.0, help="before the rounds (default: %(default)s)")
    made.add_argument("--only", type=int, nargs="*", metavar="N", help="these rounds, counted from 0; none without one")
    made.add_argument(
        "--mishaps",
        choices=list(Mishap.__members__),
        nargs="*",
        default=list(Mishap.__members__),
        metavar="NAME",
        help=f"these after the rounds, of {', '.join(Mishap.__members__)}; none without one (default: all)",
    )
    return made


def _play(scene: Scene, arguments: argparse.Namespace, rounds: Sequence[Round], load: float, say: Say) -> Result:
    started, truth = time.time(), Truth(scene.target)
    calm, broken = _calm(scene, truth, arguments, say)
    played: list[Played] = []
    for planned in rounds:
        played.append(play(scene, truth, planned, say))
        say(f"round {planned.number}, {planned.name}: {_words(played[-1])}")
        if not played[-1].kills:
            broken.append(
                f"nothing was well before round {planned.number}: {len(rounds) - len(played)} were not played"
            )
            break
    mishaps = list[Happened]()
    for each in happen(scene, truth, [Mishap[name] for name in arguments.mishaps], say):
        mishaps.append(each)
        say(f"{each.mishap}, {each.mishap.stream}: {_words_of(each)}")
    summary = Summary.of(played, calm)
    broken += broken_limits(summary.alone, summary.standby)
    broken += [f"round {each.planned.number}, {each.planned.name}: {words}" for each in played for words in each.broken]
    broken += [f"{each.mishap}, {each.mishap.stream}: {words}" for each in mishaps for words in each.broken]
    ended = time.time()
    return Result(
        started=started,
        ended=ended,
        seed=arguments.seed,
        kept=not broken,
        summary=summary,
        machine=Machine.measured(load),
        broken=broken,
        calm=calm,
        rounds=played,
        mishaps=mishaps,
        signal={name: pulse(stage.tap.arrivals, started, ended) for name, stage in scene.stages.items()},
    )


def _calm(scene: Scene, truth: Truth, arguments: argparse.Namespace, say: Say) -> tuple[Calm | None, list[str]]:
    seconds = arguments.calm_minutes * 60
    if not seconds:
        return None, []
    say(f"calm for {arguments.calm_minutes:g} minutes")
    try:
        calm = rest(scene, truth, plan_calm(arguments.seed, seconds), seconds, say)
    except FAILURES as error:
        return None, [f"the calm was none: {type(error).__name__}: {error}"]
    say(f"calm: {calm.relaunches} relaunches, {calm.incidents} incidents, {calm.watchdog_runs} watchdog runs")
    return calm, broken_calm(calm)


def pulse(arrivals: Sequence[Arrival], begin: float, end: float) -> Pulse:
    """How many messages came in each second."""
    seconds = np.array([each.arrived - begin for each in arrivals])
    counts, _ = np.histogram(seconds, bins=np.arange(0, int(end - begin) + 2))
    return Pulse(begin, counts.tolist())


def _show(result: Result) -> None:
    table = Table(box=box.HORIZONTALS, padding=0)
    for heading in (
        "",
        "killed",
        "silent",
        "detected",
        "relaunched",
        "resumed",
        "healed",
        "load",
        "reconciled",
        "verdict",
    ):
        table.add_column(heading, justify="left" if heading in ("killed", "verdict") else "right")
    for each in result.rounds:
        figures = (each.silence, each.detected, each.relaunched, each.resumed, each.healed, each.load)
        reconciled = str(sum(each.reconciled.values())) if each.reconciled else ""
        verdict = "broken" if each.broken else "kept"
        cells = ["" if seconds is None else f"{seconds:.1f}" for seconds in figures]
        table.add_row(str(each.planned.number), each.planned.name, *cells, reconciled, verdict)
    console.print(table, _mishaps(result.mishaps))
    for words in result.broken:
        console.print(words, markup=False)
    told, machine = result.summary, result.machine
    for name, spread in (("alone", told.alone), ("with a part", told.together), ("with a standby", told.standby)):
        words = f"median {spread.median} s, p95 {spread.p95} s, longest {spread.longest} s of {spread.count}"
        console.print(f"Silence, {name}: {words}", markup=False)
    console.print(
        f"{'All promises kept' if result.kept else 'PROMISES BROKEN'} in {(result.ended - result.started) / 60:.1f} "
        f"minutes of seed {result.seed}: {len(result.rounds)} rounds, {len(result.mishaps)} mishaps, "
        f"{told.incidents} incidents, {told.false_relaunches} false relaunches. {machine.cores} cores, "
        f"load {machine.load_at_start} at the start, {machine.load_at_end} at the end. "
        f"See {FOLDER}/chaos.json and chaos.png."
    )


def _mishaps(mishaps: Sequence[Happened]) -> Table:
    table = Table(box=box.HORIZONTALS, padding=0)
    for heading in ("mishap", "stream", "well after", "epochs", "incidents", "rows", "verdict"):
        table.add_column(heading, justify="left" if heading in ("mishap", "stream", "verdict") else "right")
    for each in mishaps:
        rows = "" if each.rows is None else f"{each.rows.due:,}"
        verdict = "broken" if each.broken else "kept"
        figures = (f"{each.seconds:.1f}", f"+{each.epochs}", str(len(each.incidents)), rows)
        table.add_row(each.mishap, each.mishap.stream, *figures, verdict)
    return table


def _words_of(happened: Happened) -> str:
    rows = 0 if happened.rows is None else happened.rows.due
    return "; ".join(happened.broken) or f"well after {happened.seconds:.1f} s, {rows:,} rows once"


def _words(played: Played) -> str:
    if played.broken:
        return "; ".join(played.broken)
    silence = "" if played.silence is None else f"silent for {played.silence:.1f} s, "
    return f"{silence}well after {played.healed:.1f} s, {sum(each.due for each in played.rows.values()):,} rows once"


if __name__ == "__main__":
    sys.exit(main())
