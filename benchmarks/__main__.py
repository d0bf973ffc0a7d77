"""`python -m benchmarks`: measure what is asked for, show tables, write `.rejeu/bench.json`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich_argparse import RichHelpFormatter

from benchmarks.decoding import decoding
from benchmarks.freshness import freshness
from benchmarks.lateness import lateness
from benchmarks.memory import memory
from benchmarks.parsing import parsing
from benchmarks.publishing import publishing
from benchmarks.reading import reading
from benchmarks.section import Options, Section, errors
from benchmarks.servers import commands
from benchmarks.streaming import streaming
from benchmarks.subjects import SUBJECTS
from benchmarks.takeover import takeover
from benchmarks.watching import watching
from rejeu.errors import RejeuError
from rejeu.local.processes.interrupts import interruptible
from rejeu.timeline import format_instant

RESULT: Final = Path(".rejeu/bench.json")
SECTIONS: Final[dict[str, Section]] = {
    "publishing": publishing,
    "lateness": lateness,
    "reading": reading,
    "memory": memory,
    "takeover": takeover,
    "watching": watching,
    "parsing": parsing,
    "decoding": decoding,
    "streaming": streaming,
    "freshness": freshness,
}

console = Console(highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks; the exit codes are those of `rejeu.errors`."""
    arguments = parser().parse_args(argv)
    options = Options(arguments.messages, arguments.rounds, arguments.memory_rows, tuple(arguments.only))
    document: dict[str, Any] = {"started": format_instant(datetime.now(UTC)), "options": vars(arguments)}
    document["load"] = {"cores": os.cpu_count(), "start": os.getloadavg()}
    try:
        with interruptible():
            for name in sections(options.only):
                document[name] = _show(SECTIONS[name], options)
    except RejeuError as error:
        errors.print(f"bench: {error}", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        errors.print("bench: interrupted", markup=False)
        return 130
    document["load"]["end"] = os.getloadavg()
    load = document["load"]
    console.print(f"Load {load['start'][0]:.2f} at the start, {load['end'][0]:.2f} at the end, {load['cores']} cores.")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=RichHelpFormatter)
    made.add_argument("--rounds", type=_positive, default=3, help="runs of everything (default: %(default)s)")
    made.add_argument("--messages", type=_positive, default=500_000, help="messages a run (default: %(default)s)")
    made.add_argument(
        "--memory-rows",
        type=_positive,
        default=10_000_000,
        help="rows of the file by which memory is measured, 120 bytes each (default: %(default)s)",
    )
    made.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=[*SECTIONS, *SUBJECTS, *commands()],
        metavar="NAME",
        help="these sections; subjects and servers narrow publishing: %(choices)s",
    )
    return made


def sections(only: Sequence[str]) -> list[str]:
    """The sections of `only`: publishing, if it names only subjects or servers; all, if it is empty."""
    named = [name for name in SECTIONS if name in only]
    if named:
        return named
    return ["publishing"] if only else list(SECTIONS)


def _show(section: Section, options: Options) -> dict[str, Any]:
    started = time.monotonic()
    result = section(options)
    console.print(result.table, result.legend)
    return {"seconds": round(time.monotonic() - started, 1), "figures": result.figures}


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"it is {text}: it must be 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
