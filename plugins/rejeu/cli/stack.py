"""The commands about the local stack: start and stop it, look at it, and run a demo on one."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from rejeu.cli import homes
from rejeu.cli.commands import Commands, count
from rejeu.cli.console import console, say
from rejeu.cli.folders import add_dag_files, dags_folder, examples
from rejeu.errors import RequestError
from rejeu.extras import require_local
from rejeu.spec.files import Loaded, load_specs, read_spec, spec_folders
from rejeu.target import Target

if TYPE_CHECKING:
    from rejeu.local.stack.stack import Login


def add_to(commands: Commands) -> None:
    """The commands of this module."""
    up_ = commands.add("up", up, "Start the local stack, and leave it running.")
    up_.add_argument("--dags", type=Path, metavar="DIR", help="DAG files; default: REJEU_DAGS, else the folder dags")
    seed_ = commands.add("seed", seed, "Write days of an example stream's raw files, and what is replayed after them.")
    seed_.add_argument("stream", metavar="STREAM")
    seed_.add_argument("--days", type=count, default=1, metavar="N", help="how many, up to yesterday; default: 1")
    commands.add("down", down, "Stop the local stack, and everything it started.")
    commands.add("status", status, "Show the parts of the local stack.")
    logs_ = commands.add("logs", logs, "Show the logs of all parts.")
    logs_.add_argument("--follow", "-f", action="store_true", help="go on until Ctrl-C")
    commands.add("env", env, "Print the local stack's environment, for `eval`.")
    demo_ = commands.add("demo", demo, "Run a stream's whole life on this machine, kill it on the way, and compare.")
    demo_.add_argument("stream", nargs="?", default="crypto_rates", metavar="STREAM", help="default: crypto_rates")
    demo_.add_argument("--keep", action="store_true", help="leave the stack up afterwards")
    demo_.add_argument(
        "--report", type=Path, default=homes.HOME / "demo.json", metavar="FILE", help="where the result goes"
    )


def up(arguments: argparse.Namespace) -> int:
    """Start the stack and say where it is."""
    require_local()
    dags = dags_folder(arguments.dags)
    if not dags.is_dir():
        raise RequestError(f"{dags} is no folder: name one with --dags; `rejeu new` makes one, `rejeu demo` needs none")
    add_dag_files(dags, say)
    stack = homes.stack_of(homes.HOME, dags)
    os.environ.setdefault("REJEU_STREAMS_WAIT", "1")
    from rejeu.local.stack.parts import DEMO_DATA, PARTS

    stack.up(say, (*PARTS, DEMO_DATA))
    for line in what_next(stack.ui_url, stack.login, load_specs(spec_folders(dags))):
        say(line)
    return 0


def what_next(url: str, login: Login, streams: Sequence[Loaded]) -> Iterator[str]:
    """Where the pages are, and the first click: what a person reads once everything runs."""
    good = [each.spec for each in streams if each.spec is not None]
    begins = [f"{spec.stream}.batch" for spec in good if spec.batch is not None]
    by_hand = [f"{spec.stream}.live" for spec in good if spec.batch is None]
    yield f"\nAirflow     {url}"
    yield f"Log in as   {login.user}, password {login.password}"
    yield "\nNext:"
    if begins:
        yield f"- Switch on one of {', '.join(begins)}: it loads a day, then its stream goes live by itself."
    if by_hand:
        yield f"- Trigger {' or '.join(by_hand)}: the stream goes live."
    yield "- `rejeu seed STREAM --days 3` writes more days of an example stream."
    yield "- `rejeu demo` plays a stream's whole life, kills it on the way, and checks every row."
    yield "- `rejeu new` begins a stream of your own; it shows within a minute."
    yield "- After a change of a pipeline, or of Rejeu itself: `rejeu down`, then `rejeu up`."
    yield "- `rejeu logs` shows what all parts say, `rejeu down` ends everything."


def seed(arguments: argparse.Namespace) -> int:
    """More days of an example stream, for its batch and for backfills."""
    require_local()
    from rejeu.local.demos.registry import data_of
    from rejeu.local.demos.seed import seed as write_days

    data_of(arguments.stream)  # or say which there are
    stack = homes.stack_of(homes.running())
    os.environ.update(stack.variables())
    spec = read_spec(examples() / "streams" / f"{arguments.stream}.yaml")
    days = write_days(spec, Target.from_env(), arguments.days)
    batch, airflow = f"{arguments.stream}.batch", Path(sys.executable).with_name("airflow")
    say(f"{arguments.stream}: raw files are written of the days {days[0]} to {days[-1]}")
    say(f"Switch on {batch} in Airflow to load the last day. To load them all:")
    say('  eval "$(rejeu env)"')
    dates = f"--from-date {days[0]} --to-date {days[-1] + timedelta(days=1)}"
    say(f"  {shlex.quote(str(airflow))} backfill create --dag-id {batch} {dates}")
    return 0


def down(_: argparse.Namespace) -> int:
    """Stop every stack of this checkout: the one that `up` started, and a demo's that was kept."""
    for home in (homes.HOME, homes.DEMO_HOME):
        if home.exists():
            homes.stack_of(home).down(say)
    return 0


def status(_: argparse.Namespace) -> int:
    """A table of the parts."""
    table = Table("part", "state", "pid", "address")
    for part in homes.stack_of(homes.running()).status():
        table.add_row(part.part, part.state, str(part.pid or ""), part.address)
    console.print(table)
    return 0


def logs(arguments: argparse.Namespace) -> int:
    """The parts' logs, each line with the part's name in front."""
    for line in homes.stack_of(homes.running()).logs(follow=arguments.follow):
        print(line)
    return 0


def env(_: argparse.Namespace) -> int:
    """The variables that a shell needs to work with the stack."""
    for name, value in homes.stack_of(homes.running()).variables().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def demo(arguments: argparse.Namespace) -> int:
    """The main job, end to end."""
    require_local()
    from rejeu.local.demos.registry import data_of
    from rejeu.local.demos.run import run_demo

    data_of(arguments.stream)  # or say which there are, before anything starts
    keep = arguments.keep or os.environ.get("KEEP") == "1"
    spec = read_spec(examples() / "streams" / f"{arguments.stream}.yaml")
    return run_demo(examples(), homes.DEMO_HOME, spec, arguments.report, keep=keep, console=console)
