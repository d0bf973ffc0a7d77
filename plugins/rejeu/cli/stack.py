"""The commands about the local stack: start and stop it, look at it, and run a demo on one."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from rich.table import Table

from rejeu.cli import homes
from rejeu.cli.commands import Commands
from rejeu.cli.console import console, say
from rejeu.cli.folders import add_dag_file, dags_folder, examples
from rejeu.errors import RequestError
from rejeu.extras import require_local
from rejeu.spec.files import read_spec


def add_to(commands: Commands) -> None:
    """The commands of this module."""
    up_ = commands.add("up", up, "Start the local stack, and leave it running.")
    up_.add_argument("--dags", type=Path, metavar="DIR", help="DAG files; default: REJEU_DAGS, else the folder dags")
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
    if made := add_dag_file(dags):
        say(f"{made}: written; it makes DAGs of all specs in {dags / 'streams'}")
    stack = homes.stack_of(homes.HOME, dags)
    stack.up(say)
    say(f"\nAirflow   {stack.ui_url}   user {stack.login.user}, password {stack.login.password}")
    console.print("`make logs` follows all parts, `make down` stops them.")
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
        print(f"export {name}={json.dumps(value)}")
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
