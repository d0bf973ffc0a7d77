"""`python -m beam_jobs.stream`: reads a subscription, and writes the pipeline's rows to a table.

Our flags come first (see --help), then Beam's own options behind `--`, such as `-- --runner=DirectRunner`.
Locally it prints when it runs, and SIGTERM drains it: what was pulled is written and acknowledged first.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.runners.runner import PipelineResult
from google.api_core.exceptions import NotFound

from beam_jobs.direct.journal import Journal
from beam_jobs.direct.pulls import LocalPulls
from beam_jobs.direct.runner import light_bundles
from beam_jobs.direct.windows import EventClock, LocalWindows
from beam_jobs.program import check_column, is_direct, main, read_arguments, transform_of
from beam_jobs.tables import columns_of
from beam_jobs.transforms.counts import counted_here
from beam_jobs.transforms.dead_letters import never_lost, split_large
from beam_jobs.transforms.records import Row, from_pubsub
from beam_jobs.transforms.sink import InsertRows
from beam_jobs.transforms.storage_write import AppendRows
from beam_jobs.transforms.validate import Validate
from beam_jobs.transforms.windows import Windowed
from rejeu.errors import RejeuError, RequestError
from rejeu.gcp.clients import subscriber_client
from rejeu.jobs.flex_template import SUBSCRIPTION, TABLE
from rejeu.jobs.request import StreamJobRequest
from rejeu.message import EVENT_TIME, ROW_ID
from rejeu.spec.columns import DEAD_LETTER_COLUMNS, ROW_ID_COLUMN, Column
from rejeu.spec.pipelines import PIPELINES

DRAIN_SECONDS: Final = 10.0


def run(argv: Sequence[str]) -> None:
    """Run locally until stopped, or submit to Dataflow and return."""
    request, options = read_arguments(StreamJobRequest, argv)
    check_names(request, options)
    columns = columns_of(request.table)
    check_table(request, columns)
    options.view_as(StandardOptions).streaming = True
    if is_direct(options):
        run_locally(request, columns, options)
    else:
        build(request, columns, options).run()


def check_names(request: StreamJobRequest, options: PipelineOptions) -> None:
    """Raises RequestError for names that Beam or Google would refuse minutes later."""
    transform_of(request)
    for flag, value, rule, example in (
        ("--subscription", request.subscription, SUBSCRIPTION, "projects/P/subscriptions/S"),
        ("--table", request.table, TABLE, "project.dataset.table"),
        ("--dead-letters", request.dead_letters, TABLE, "project.dataset.table"),
    ):
        if re.fullmatch(rule, value) is None:
            raise RequestError(f"{flag} is {value!r}: write {example}")
    runner = options.view_as(StandardOptions).runner
    if not is_direct(options) and runner != "DataflowRunner":
        raise RequestError(f"--runner is {runner}: only DirectRunner and DataflowRunner read Pub/Sub from Python")


def check_table(request: StreamJobRequest, columns: Sequence[Column]) -> None:
    """Raises RequestError where a column is missing: every row would be a dead letter."""
    known = {column.name.lower() for column in columns}
    written = (*(PIPELINES[request.pipeline].columns or ()), ROW_ID_COLUMN)
    missing = [column.name for column in written if column.name.lower() not in known]
    if missing:
        raise RequestError(
            f"--table is {request.table}: {', '.join(missing)} is missing, which {request.pipeline} writes; add it"
        )
    check_column("--event-time", request.event_time, columns)


def build(request: StreamJobRequest, columns: Sequence[Column], options: PipelineOptions) -> beam.Pipeline:
    """The whole pipeline: read, prepare, insert rows, insert dead letters."""
    direct = is_direct(options)
    # Beam's DirectRunner, by its full name: under the short one it tries to download another runner first.
    pipeline = beam.Pipeline(runner=BundleBasedDirectRunner() if direct else None, options=options)
    messages = pipeline | "read" >> read(request.subscription, direct)
    rows, letters = prepare(messages, request, columns)
    refused = rows | "insert" >> sink(request.stream, request.table, columns, "out", direct)
    (
        (letters, refused)
        | "all dead letters" >> beam.Flatten()
        | "split large ones" >> beam.FlatMap(split_large)
        | "insert dead letters" >> sink(request.stream, request.dead_letters, DEAD_LETTER_COLUMNS, "dead", direct)
        | "lose none" >> beam.Map(never_lost)
    )
    return pipeline


def read(subscription: str, direct: bool) -> beam.io.ReadFromPubSub:
    """Messages, each row id once: Dataflow ensures that by the attribute, LocalPulls on the DirectRunner.

    The DirectRunner keeps the watermark at the wall clock and fails on a time that it cannot parse, so there messages
    get the time of their pull.
    """
    if direct:
        return beam.io.ReadFromPubSub(subscription=subscription, with_attributes=True)
    return beam.io.ReadFromPubSub(
        subscription=subscription, with_attributes=True, id_label=ROW_ID, timestamp_attribute=EVENT_TIME
    )


def sink(stream: str, table: str, columns: Sequence[Column], counter: str, direct: bool) -> beam.PTransform:
    """Writes rows and returns dead letters, by the API for many workers or the one that the emulator has."""
    if direct:
        return beam.ParDo(InsertRows(stream, table, counter))
    return AppendRows(stream, table, columns, counter)


def prepare(
    messages: beam.PCollection[PubsubMessage], request: StreamJobRequest, columns: Sequence[Column]
) -> tuple[beam.PCollection[Row], beam.PCollection[Row]]:
    """Messages to rows that the table takes, and dead letters."""
    rows, undecoded = messages | "receive" >> beam.Map(from_pubsub) | request.pipeline >> transform_of(request)
    valid, invalid = rows | "validate" >> Validate(request.stream, columns)
    return valid, (undecoded, invalid) | "refused" >> beam.Flatten()


def run_locally(request: StreamJobRequest, columns: Sequence[Column], options: PipelineOptions) -> None:
    """Run in this process until SIGTERM, then drain."""
    subscriber = subscriber_client()
    try:
        subscriber.get_subscription(subscription=request.subscription)
    except NotFound:
        raise RequestError(
            f"--subscription is {request.subscription}: there is no such subscription; the stream's live DAG makes it"
        ) from None
    with open_windows(request) as windows:
        pulls = LocalPulls(
            request.stream, subscriber, on_running=lambda: _say(request, request.ready_text), windows=windows
        )
        with pulls.installed(), light_bundles():
            result = build(request, columns, options).run()
            wait_or_drain(result, pulls)
    _say(request, f"streaming job is drained: {counted_here(request.stream)}")


@contextmanager
def open_windows(request: StreamJobRequest) -> Iterator[LocalWindows | None]:
    """The windows of this process with this job's journal; None for a pipeline without windows."""
    transform = transform_of(request)
    if not isinstance(transform, Windowed):
        yield None
        return
    home = Path(os.environ.get("REJEU_HOME", ".rejeu"))
    with closing(Journal(home / "journals" / f"{request.job_name}.db")) as journal:
        yield LocalWindows(transform, journal, EventClock())


def wait_or_drain(result: PipelineResult, pulls: LocalPulls) -> None:
    """Wait for the pipeline, which ends on an error or a signal. Raises RejeuError where it could not drain."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result.wait_until_finish()
    except KeyboardInterrupt:
        if not pulls.drain(DRAIN_SECONDS):
            raise RejeuError(
                f"what was pulled could not be written in {DRAIN_SECONDS:g} s: it is not acknowledged, "
                "so it comes again to the next job; see why the table cannot be written"
            ) from None
        result.cancel()


def _say(request: StreamJobRequest, what: str) -> None:
    print(f"rejeu: {request.stream}: {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main(run))
