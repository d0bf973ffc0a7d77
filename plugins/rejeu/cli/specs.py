"""The commands about specs: check them, begin one, describe them, and the metadata of their streaming job."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Final

from rejeu.cli import homes
from rejeu.cli.commands import Commands
from rejeu.cli.console import errors, say, write_document
from rejeu.cli.folders import add_dag_files, dags_folder
from rejeu.errors import RejeuError, RequestError, SourceError, SpecError
from rejeu.spec.files import Loaded, load_files, load_specs
from rejeu.spec.model import StreamSpec
from rejeu.target import Target

DEFAULT: Final = "default: REJEU_DAGS, else the folder dags"


def add_to(commands: Commands) -> None:
    """The commands of this module."""
    validate_ = commands.add("validate", validate, "Check specs: every file given, or all of the dags folder.")
    validate_.add_argument("files", nargs="*", type=Path, metavar="FILE")
    validate_.add_argument(
        "--source",
        action="store_true",
        help="also look at the source, the topic and the tables of each, as `live` does first; 3 if one will not do",
    )
    validate_.add_argument("--dags", type=Path, metavar="DIR", help=f"check DIR/streams; {DEFAULT}")
    new_ = commands.add(
        "new",
        new,
        "Begin a stream: write its spec from a table or a file, and say what was guessed and why. Or begin a pipeline.",
    )
    new_.add_argument("name", metavar="NAME", help="the stream's name, or the pipeline's")
    source = new_.add_mutually_exclusive_group(required=True)
    source.add_argument("--table", metavar="TABLE", help="a BigQuery table, [project.]dataset.table")
    source.add_argument("--file", metavar="FILE", help="Parquet or NDJSON, a path or gs:// URI, * allowed")
    source.add_argument(
        "--pipeline-template", action="store_true", help="write the pipeline NAME to begin from, with its test"
    )
    new_.add_argument("--pipeline", default="passthrough", metavar="PIPELINE", help="default: passthrough")
    new_.add_argument("--topic", metavar="TOPIC", help="the topic's id; default: NAME with dashes")
    new_.add_argument("--dags", type=Path, metavar="DIR", help=f"write to DIR/streams; {DEFAULT}")
    new_.add_argument("--dry-run", action="store_true", help="print what would be written")
    schema_ = commands.add("schema", schema, "Print the JSON Schema of a spec.")
    schema_.add_argument("--write", type=Path, metavar="FILE", help="write it to this file instead")
    template_ = commands.add("template", template, "Print the metadata of the streaming job's flex template.")
    template_.add_argument("--write", type=Path, metavar="FILE", help="write it to this file instead")


def validate(arguments: argparse.Namespace) -> int:
    """Check specs; the exit code is 2 if one is wrong, or there is none, and 3 if what one needs will not do."""
    folder = dags_folder(arguments.dags) / "streams"
    results = load_files(arguments.files) if arguments.files else load_specs([folder])
    if not results:
        raise RequestError(f"{folder} holds no spec: name files, or a folder with --dags; `rejeu new` begins a spec")
    target = homes.target() if arguments.source else None
    wrong, failed = 0, 0
    for loaded in results:
        if _judge(loaded) is not None:
            wrong += 1
        elif target is not None and loaded.spec is not None:
            failed += not _looks_good(loaded.spec, target)
    return SpecError.exit_code if wrong else SourceError.exit_code if failed else 0


def _looks_good(spec: StreamSpec, target: Target) -> bool:
    """Whether all that the stream needs will do; what was found is said."""
    from rejeu.checks import checks
    from rejeu.gcp.clients import bigquery_client, subscriber_client

    good = True
    for name, look in checks(spec, target, lambda: bigquery_client(target.project), subscriber_client).items():
        try:
            say(f"  {name}: {look()}")
        except RejeuError as error:
            good = False
            errors.print(f"  {name}: {error}", markup=False)
    return good


def _judge(loaded: Loaded) -> SpecError | None:
    """What is wrong with the spec, which is said; what its source names is imported, too."""
    from rejeu.replay.source.check import check_source

    error = loaded.error
    if loaded.spec is not None and loaded.spec.replay is not None:
        try:
            check_source(loaded.spec.replay.source)
        except RequestError as found:
            error = SpecError(str(loaded.file), "replay.source", str(found), "Mend it there.")
    if error is None:
        say(f"{loaded.file}: ok")
    else:
        errors.print(str(error), markup=False)
    return error


def new(arguments: argparse.Namespace) -> int:
    """Look at the source, judge, and write; what was guessed goes to the terminal, with its reasons."""
    if arguments.pipeline_template:
        return _new_pipeline(arguments)
    from rejeu.new.explain import explain
    from rejeu.new.guess import find_event_time, find_key
    from rejeu.new.look import look
    from rejeu.new.text import Wish, spec_text, write_spec

    wish = Wish(arguments.name, arguments.pipeline, arguments.topic, arguments.table, arguments.file)
    wish.check()
    sample = look(wish.table, wish.file, homes.target)
    wish.check_columns(sample.columns)
    time = find_event_time(sample)
    key = find_key(sample, time)
    text = spec_text(wish, time, key)
    for line in explain(sample, time, key):
        errors.print(line, markup=False)
    if arguments.dry_run:
        print(text, end="")
        return 0
    dags = dags_folder(arguments.dags)
    say(f"{write_spec(dags / 'streams', wish.name, text)}: written")
    add_dag_files(dags, say)
    up = f"rejeu up --dags {shlex.quote(str(dags))}"
    say(f"Read it through. Then start `{up}`, and trigger {wish.name}.live in Airflow.")
    say("A stack of this folder that is up shows the new DAGs within a minute, without a restart.")
    return 0


def _new_pipeline(arguments: argparse.Namespace) -> int:
    """A pipeline beside the specs, and what to do with it."""
    from rejeu.new.pipeline_template import check_name, pipeline_files, write_pipeline

    dags = dags_folder(arguments.dags)
    folder, name = dags / "streams", arguments.name
    if arguments.dry_run:
        check_name(folder, name)
        for file, text in pipeline_files(name).items():
            print(f"# {folder / name / file}\n{text}")
        return 0
    say(f"{write_pipeline(folder, name)}: written")
    # The plugin that BigQuery's emulator brings for pytest needs a library that it does not bring.
    say(f"Try it with `pytest -p no:bqemulator {shlex.quote(str(folder / name))}`.")
    say(f"Then a spec of {folder} names it: `live: {{pipeline: {name}}}`.")
    return 0


def schema(arguments: argparse.Namespace) -> int:
    """The JSON Schema that editors complete a spec with."""
    return write_document(StreamSpec.model_json_schema(), arguments.write)


def template(arguments: argparse.Namespace) -> int:
    """What `gcloud dataflow flex-template build` asks for as --metadata-file."""
    from rejeu.jobs.flex_template import metadata

    return write_document(metadata(), arguments.write)
