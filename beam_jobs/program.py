"""What the programs share: exit codes, and arguments, which are checked before anything is submitted."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from rejeu.errors import RejeuError, RequestError
from rejeu.jobs.flags import Request
from rejeu.jobs.request import PipelineRequest
from rejeu.spec.columns import Column
from rejeu.spec.pipelines import PIPELINES

AnyRequest = TypeVar("AnyRequest", bound=Request)

DIRECT_RUNNERS: Final = (None, "DirectRunner", "BundleBasedDirectRunner", "SwitchingDirectRunner")


def main(run: Callable[[Sequence[str]], None]) -> int:
    """Run a program with the command line's arguments; returns the exit code of our error that ended it, else 0."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        run(sys.argv[1:])
    except RejeuError as error:
        print(f"rejeu: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def read_arguments(kind: type[AnyRequest], argv: Sequence[str]) -> tuple[AnyRequest, PipelineOptions]:
    """Our flags, and Beam's after `--`. Raises RequestError for a wrong value or an option that Beam does not have."""
    ours, beams = list(argv), []
    if "--" in ours:
        at = ours.index("--")
        ours, beams = ours[:at], ours[at + 1 :]
    options = PipelineOptions(beams)
    unknown = set(options.get_all_options(retain_unknown_options=True)) - set(options.get_all_options())
    if unknown:
        raise RequestError(f"Beam has no option --{min(unknown)}: leave it out, or mend its name")
    return kind.from_argv(ours), options


def is_direct(options: PipelineOptions) -> bool:
    """Whether the pipeline runs in this process."""
    return options.view_as(StandardOptions).runner in DIRECT_RUNNERS


def transform_of(request: PipelineRequest) -> beam.PTransform:
    """The request's pipeline: messages to (rows, dead letters). Raises RequestError where there is none."""
    name, pipeline = request.pipeline, PIPELINES.find(request.pipeline, "--pipeline")
    if pipeline.windows is None and (request.window_seconds or request.session_seconds):
        raise RequestError(f"--pipeline is {name}: it has no windows; leave them out, or take a pipeline that has some")
    made: beam.PTransform = importlib.import_module(pipeline.module).transform(request)
    return made


def check_column(flag: str, name: str, columns: Sequence[Column]) -> None:
    """Raises RequestError where this column is missing."""
    known = [column.name for column in columns]
    if name.lower() not in {each.lower() for each in known}:
        raise RequestError(f"{flag} is {name!r}: the table has no such column; it has {', '.join(known)}")
