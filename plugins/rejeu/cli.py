"""The `rejeu` command: checks specs, runs a replay, shows incidents, keeps the local stack; thin over the modules."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich_argparse import RichHelpFormatter

import rejeu
from rejeu.errors import RejeuError, SpecError
from rejeu.spec.files import load_files, load_specs, read_spec
from rejeu.spec.model import StreamSpec
from rejeu.spec.types import parse_speed
from rejeu.target import Target
from rejeu.timeline import format_instant

if TYPE_CHECKING:
    from rejeu.local.stack.stack import Stack

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

HOME = Path(".rejeu")
DEMO_HOME = HOME / "demo"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit codes are those of `rejeu.errors`."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["replay"]:
        # Its flags are the request's own fields, parsed in one place for the CLI, the DAGs and the containers.
        from rejeu.replay.__main__ import main as replay

        return replay(given[1:])
    arguments = parser().parse_args(given)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except RejeuError as error:
        errors.print(f"rejeu: {error}", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        errors.print("rejeu: interrupted", markup=False)
        return 130


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="rejeu", description=rejeu.__doc__, formatter_class=RichHelpFormatter)
    top.add_argument("--version", action="version", version=f"rejeu {rejeu.__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, formatter_class=RichHelpFormatter)
        made.set_defaults(run=run)
        return made

    validate_ = add("validate", validate, "Check specs: every file given, or all of dags/streams.")
    validate_.add_argument("files", nargs="*", type=Path, metavar="FILE")
    new_ = add("new", new, "Begin a stream: write its spec from a table or a file, and say what was guessed and why.")
    new_.add_argument("name", metavar="NAME")
    source = new_.add_mutually_exclusive_group(required=True)
    source.add_argument("--table", metavar="TABLE", help="a BigQuery table, [project.]dataset.table")
    source.add_argument("--file", metavar="FILE", help="Parquet or NDJSON, a path or gs:// URI, * allowed")
    new_.add_argument("--pipeline", default="passthrough", metavar="PIPELINE", help="default: passthrough")
    new_.add_argument("--topic", metavar="TOPIC", help="the topic's id; default: NAME with dashes")
    new_.add_argument("--dags", type=Path, metavar="DIR", help="write to DIR/streams; default: the checkout's dags")
    new_.add_argument("--dry-run", action="store_true", help="print the spec instead of writing it")
    schema_ = add("schema", schema, "Print the JSON Schema of a spec.")
    schema_.add_argument("--write", type=Path, metavar="FILE", help="write it to this file instead")
    template_ = add("template", template, "Print the metadata of the streaming job's flex template.")
    template_.add_argument("--write", type=Path, metavar="FILE", help="write it to this file instead")
    update_ = add("update", update, "Have a stream's running Dataflow job do what its spec says now, in place.")
    update_.add_argument("file", type=Path, metavar="FILE", help="the stream's spec")
    update_.add_argument(
        "--renamed",
        type=_renaming,
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="a step's new name; repeatable",
    )
    add("replay", schema, "Publish rows to a topic; see `rejeu replay --help`.")
    pace_ = add("pace", pace, "Change the speed of a running replay, or pause it; it keeps its place.")
    pace_.add_argument("stream", metavar="STREAM")
    pace_.add_argument("wish", metavar="SPEED|max|pause|resume")
    pace_.add_argument("--state", metavar="URI", help="state store; default: REJEU_STATE, else the local stack's")
    incidents_ = add("incidents", incidents, "Show the last silences, newest first: what was lost, when, and why.")
    incidents_.add_argument("stream", nargs="?", metavar="STREAM")
    incidents_.add_argument("--limit", type=_count, default=20, metavar="N", help="how many at most; default: 20")
    incidents_.add_argument("--json", action="store_true", help="one JSON object a line, with every column")
    add("up", up, "Start the local stack, and leave it running.")
    add("down", down, "Stop the local stack, and everything it started.")
    add("status", status, "Show the parts of the local stack.")
    logs_ = add("logs", logs, "Show the logs of all parts.")
    logs_.add_argument("--follow", "-f", action="store_true", help="go on until Ctrl-C")
    add("env", env, "Print the local stack's environment, for `eval`.")
    demo_ = add("demo", demo, "Run a stream's whole life on this machine, with a kill on the way, and compare.")
    demo_.add_argument("stream", nargs="?", default="crypto_rates", metavar="STREAM", help="default: crypto_rates")
    demo_.add_argument("--keep", action="store_true", help="leave the stack up afterwards")
    demo_.add_argument("--report", type=Path, default=HOME / "demo.json", metavar="FILE", help="where the result goes")
    return top


def validate(arguments: argparse.Namespace) -> int:
    """Check specs; the exit code is 2 if one is wrong."""
    results = load_files(arguments.files) if arguments.files else load_specs([root() / "dags" / "streams"])
    for loaded in results:
        if loaded.error is None:
            console.print(f"{loaded.file}: ok", markup=False, soft_wrap=True)
        else:
            errors.print(str(loaded.error), markup=False)
    return SpecError.exit_code if any(loaded.error for loaded in results) else 0


def new(arguments: argparse.Namespace) -> int:
    """Look at the source, judge, and write; what was guessed goes to the terminal, with its reasons."""
    from rejeu.new.explain import explain
    from rejeu.new.guess import find_event_time, find_key
    from rejeu.new.sample import look
    from rejeu.new.text import Wish, spec_text, write_spec

    wish = Wish(arguments.name, arguments.pipeline, arguments.topic, arguments.table, arguments.file)
    wish.check()
    sample = look(wish.table, wish.file, _target)
    wish.check_columns(sample.columns)
    time = find_event_time(sample)
    key = find_key(sample, time)
    text = spec_text(wish, time, key)
    for line in explain(sample, time, key):
        errors.print(line, markup=False)
    if arguments.dry_run:
        print(text, end="")
        return 0
    file = write_spec((arguments.dags or root() / "dags") / "streams", wish.name, text)
    console.print(f"{file}: written", markup=False, soft_wrap=True)
    console.print(f"Read it through; then `rejeu up`, and trigger {wish.name}.live in Airflow.", markup=False)
    return 0


def schema(arguments: argparse.Namespace) -> int:
    """The JSON Schema that editors complete a spec with."""
    return _write(StreamSpec.model_json_schema(), arguments.write)


def template(arguments: argparse.Namespace) -> int:
    """What `gcloud dataflow flex-template build` asks for as --metadata-file."""
    from rejeu.jobs.flex_template import metadata

    return _write(metadata(), arguments.write)


def update(arguments: argparse.Namespace) -> int:
    """Wait until the new job has taken over, and say where it is."""
    from rejeu.jobs.build import stream_job_request
    from rejeu.launchers.choose import dataflow_launcher

    target = Target.from_env()
    request = stream_job_request(read_spec(arguments.file), target)
    console.print(f"{request.job_name}: this takes Dataflow some minutes", markup=False, soft_wrap=True)
    job = dataflow_launcher(target).update(request, dict(arguments.renamed))
    console.print(f"{job.name} is {job.state} {job.detail}", markup=False, soft_wrap=True)
    return 0


def pace(arguments: argparse.Namespace) -> int:
    """Leave the wish in the stream's document, where the replay hears it."""
    from rejeu.state import open_store
    from rejeu.state.stream import set_pace

    uri = arguments.state or os.environ.get("REJEU_STATE") or _stack(_running()).variables()["REJEU_STATE"]
    if arguments.wish in ("pause", "resume"):
        set_pace(open_store(uri), arguments.stream, paused=arguments.wish == "pause")
    else:
        set_pace(open_store(uri), arguments.stream, speed=parse_speed(arguments.wish))
    return 0


def incidents(arguments: argparse.Namespace) -> int:
    """The table of incidents, for a person or a program."""
    from rejeu.bigquery.incidents import recent_incidents
    from rejeu.gcp.clients import bigquery_client

    target = _target()
    table = target.incidents
    rows = recent_incidents(bigquery_client(target.project), table, arguments.stream, arguments.limit)
    if arguments.json:
        for row in rows or ():
            print(json.dumps(row, default=format_instant))
    elif rows:
        console.print(_table_of(rows))
    else:
        where = f"in {table}" if rows is not None else f"yet: {table} comes with a stream's first live run"
        console.print(f"no incident {where}", markup=False, soft_wrap=True)
    return 0


def up(_: argparse.Namespace) -> int:
    """Start the stack and say where it is."""
    stack = _stack(HOME)
    stack.up(_say)
    console.print(
        f"\nAirflow   {stack.ui_url}   user {stack.login.user}, password {stack.login.password}", markup=False
    )
    console.print("`make logs` follows all parts, `make down` stops them.")
    return 0


def down(_: argparse.Namespace) -> int:
    """Stop every stack of this checkout: the one that `up` started, and a demo's that was kept."""
    for home in (HOME, DEMO_HOME):
        if home.exists():
            _stack(home).down(_say)
    return 0


def status(_: argparse.Namespace) -> int:
    """A table of the parts."""
    table = Table("part", "state", "pid", "address")
    for part in _stack(_running()).status():
        table.add_row(part.part, part.state, str(part.pid or ""), part.address)
    console.print(table)
    return 0


def logs(arguments: argparse.Namespace) -> int:
    """The parts' logs, each line with the part's name in front."""
    for line in _stack(_running()).logs(follow=arguments.follow):
        print(line)
    return 0


def env(_: argparse.Namespace) -> int:
    """The variables that a shell needs to work with the stack."""
    for name, value in _stack(_running()).variables().items():
        print(f"export {name}={json.dumps(value)}")
    return 0


def demo(arguments: argparse.Namespace) -> int:
    """The main job, end to end."""
    from rejeu.local.demos.registry import data_of
    from rejeu.local.demos.run import run_demo

    data_of(arguments.stream)  # or say which there are, before anything starts
    keep = arguments.keep or os.environ.get("KEEP") == "1"
    spec = read_spec(root() / "dags" / "streams" / f"{arguments.stream}.yaml")
    return run_demo(root(), DEMO_HOME, spec, arguments.report, keep=keep, console=console)


def root() -> Path:
    """The checkout: where dags/, plugins/ and beam_jobs/ lie."""
    return Path(rejeu.__file__).parents[2]


def _running() -> Path:
    """The home of the stack that is up: `up`'s, else a kept demo's."""
    return HOME if (HOME / "stack.json").exists() else DEMO_HOME


def _stack(home: Path) -> Stack:
    from rejeu.local.stack.stack import Stack

    return Stack(root(), home)


def _target() -> Target:
    """Where the environment says, else the local stack."""
    if not {"REJEU_PROJECT", "GOOGLE_CLOUD_PROJECT"} & os.environ.keys():
        os.environ.update(_stack(_running()).variables())
    return Target.from_env()


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"it is {text!r}: it must be a whole number above 0")
    return int(text)


def _renaming(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not (old and new):
        raise argparse.ArgumentTypeError(f"it is {text!r}: it must be OLD=NEW, the names of a step")
    return old, new


def _write(document: dict[str, Any], file: Path | None) -> int:
    """Write a document as JSON to a file, or print it."""
    text = json.dumps(document, indent=2) + "\n"
    if file:
        file.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 0


def _table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """What fits into 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("stream", overflow="fold")
    table.add_column("lost at (UTC)", no_wrap=True)
    for name in ("gap", "owed", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("cause", overflow="fold")
    for row in rows:
        gap = "" if row["gap_seconds"] is None else f"{row['gap_seconds']:,.1f} s"
        counts = ("" if row[name] is None else f"{row[name]:,}" for name in ("rows_owed", "rows_lost"))
        table.add_row(row["stream"], f"{row['lost_at']:%Y-%m-%d %H:%M:%S}", gap, *counts, escape(row["cause"]))
    return table


def _say(text: str) -> None:
    console.print(text, markup=False)


if __name__ == "__main__":
    sys.exit(main())
