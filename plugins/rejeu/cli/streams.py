"""The commands about running streams: replay, change the pace, update the job, show incidents."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from rejeu import extensions
from rejeu.cli import homes
from rejeu.cli.commands import Commands, count
from rejeu.cli.console import console, say
from rejeu.cli.folders import dags_folder
from rejeu.spec.files import read_spec
from rejeu.spec.types import parse_speed
from rejeu.target import Target
from rejeu.timeline import format_instant

if TYPE_CHECKING:
    from rejeu.bigquery.records import IncidentRow
    from rejeu.state.model import Incident


def add_to(commands: Commands) -> None:
    """The commands of this module."""
    update_ = commands.add("update", update, "Have a stream's Dataflow job do in place what its spec says now.")
    update_.add_argument("file", type=Path, metavar="FILE", help="the stream's spec")
    update_.add_argument(
        "--renamed",
        type=_renaming,
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="a step's new name; repeatable",
    )
    # Its flags are the request's own: `main` hands them over unparsed, and this one is for the list of commands.
    commands.add("replay", lambda _: replay([]), "Publish rows to a topic; see `rejeu replay --help`.")
    pace_ = commands.add("pace", pace, "Change the speed of a running replay, or pause it; it keeps its place.")
    pace_.add_argument("stream", metavar="STREAM")
    pace_.add_argument("wish", metavar="SPEED|max|pause|resume")
    pace_.add_argument("--state", metavar="URI", help="state store; default: REJEU_STATE, else the local stack's")
    incidents_ = commands.add(
        "incidents", incidents, "Show the silences that last, then the last ones: what was lost, when, and why."
    )
    incidents_.add_argument("stream", nargs="?", metavar="STREAM")
    incidents_.add_argument("--limit", type=count, default=20, metavar="N", help="how many at most; default: 20")
    incidents_.add_argument("--json", action="store_true", help="one JSON object a line, with every column")


def update(arguments: argparse.Namespace) -> int:
    """Wait until the new job has taken over, and say where it is."""
    from rejeu.jobs.build import stream_job_request
    from rejeu.launchers.choose import updating_launcher

    target = Target.from_env()
    request = stream_job_request(read_spec(arguments.file), target)
    launcher = updating_launcher(target)
    say(f"{request.job_name}: this takes some minutes")
    job = launcher.update(request, dict(arguments.renamed))
    say(f"{job.name} is {job.state} {job.detail}")
    return 0


def replay(argv: Sequence[str]) -> int:
    """Publish rows; the flags are the request's own fields, parsed in one place for CLI, DAGs and containers.

    A source that stands beside the specs is found, as it is for these.
    """
    from rejeu.replay.__main__ import main

    extensions.look_in(dags_folder() / "streams")
    return main(argv)


def pace(arguments: argparse.Namespace) -> int:
    """Leave the wish in the stream's document, where the replay hears it."""
    from rejeu.state import open_store
    from rejeu.state.stream import set_pace

    uri = arguments.state or os.environ.get("REJEU_STATE") or homes.stack_of(homes.running()).variables()["REJEU_STATE"]
    if arguments.wish in ("pause", "resume"):
        set_pace(open_store(uri), arguments.stream, paused=arguments.wish == "pause")
    else:
        set_pace(open_store(uri), arguments.stream, speed=parse_speed(arguments.wish))
    return 0


def incidents(arguments: argparse.Namespace) -> int:
    """The silences that last, as the state store knows them, and the table of those that are over."""
    from rejeu.bigquery.incidents import recent_incidents
    from rejeu.gcp.clients import bigquery_client
    from rejeu.state import open_store
    from rejeu.watchdog.incidents import still_open

    target = homes.target()
    table = target.incidents
    lasting = still_open(open_store(target.state), arguments.stream)
    rows = recent_incidents(bigquery_client(target.project), table, arguments.stream, arguments.limit)
    if arguments.json:
        for stream, incident in lasting:
            print(json.dumps(_as_json(stream, incident)))
        for row in rows or ():
            print(json.dumps(row.as_json()))
        return 0
    for stream, incident in lasting:
        say(_words(stream, incident))
    if rows:
        console.print(_table_of(rows))
    elif not lasting:
        where = f"in {table}" if rows is not None else f"yet: {table} comes with a stream's first live run"
        say(f"no incident {where}")
    return 0


def _as_json(stream: str, incident: Incident) -> dict[str, Any]:
    """A silence that lasts, with the columns of one that is over: those of its end are null."""
    from rejeu.bigquery.records import IncidentRow

    told = incident.model_dump(mode="json") | {"stream": stream}
    for name, value in incident:
        if isinstance(value, datetime):
            told[name] = format_instant(value)
    return {name: told.get(name) for name in IncidentRow.model_fields}


def _words(stream: str, incident: Incident) -> str:
    """A silence that lasts, for a person."""
    tried = "given up" if incident.given_up else f"relaunched {incident.attempts} times so far"
    return f"{stream}: silent since {incident.lost_at:%Y-%m-%d %H:%M:%S} UTC, {tried}: {incident.cause}"


def _renaming(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not (old and new):
        raise argparse.ArgumentTypeError(f"it is {text!r}: it must be OLD=NEW, the names of a step")
    return old, new


def _table_of(rows: Sequence[IncidentRow]) -> Table:
    """What fits into 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("stream", overflow="fold")
    table.add_column("lost at (UTC)", no_wrap=True)
    for name in ("gap", "owed", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("cause", overflow="fold")
    for row in rows:
        counts = ("" if count is None else f"{count:,}" for count in (row.rows_owed, row.rows_lost))
        gap = f"{row.gap_seconds:,.1f} s"
        table.add_row(row.stream, f"{row.lost_at:%Y-%m-%d %H:%M:%S}", gap, *counts, escape(row.cause))
    return table
