"""The cost of decoding: pipelines against one that does nothing, on the batch job's runner; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from statistics import median
from typing import Any, Final

import apache_beam as beam
import psutil
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from rich.table import Table

from beam_jobs.program import transform_of
from beam_jobs.transforms.records import Message
from benchmarks.feed import FIRST_EPOCH, STREAM_NAME
from benchmarks.measure import Stopwatch
from benchmarks.section import Options, Result, figures_table, steps
from rejeu.jobs.request import PipelineRequest
from rejeu.message import EPOCH, EVENT_TIME, ROW_ID, STREAM
from rejeu.replay.source.generators.oracle_requests import OracleRequests

NO_OP: Final = "no-op"
SUBJECTS: Final = (NO_OP, "rates", "passthrough")
SHARE: Final = 5
"""A fifth of the messages, because each is fifteen times as large as those of the other sections."""
WARM_UP: Final = 1_000
DIFFERENT: Final = 1_000
LEGEND: Final = (
    "Medians of whole runs in this process, including the start of the runner. The messages are oracle requests of "
    "3 KB. All runs begin with Beam's Create of numbers and a Map to messages, and end in a step that counts; "
    f"{NO_OP} has a Map that does nothing between them. The ratio is to {NO_OP} in the same round, in messages; µs are "
    f"CPU time a message, in all and beyond that of {NO_OP}."
)


@dataclass(frozen=True)
class Run:
    """One run of a pipeline; `rows` is how many came out."""

    subject: str
    messages: int
    rows: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds

    @property
    def cpu_us(self) -> float:
        """A message."""
        return self.cpu_seconds / self.messages * 1e6


def decoding(options: Options) -> Result:
    """Run each pipeline once a round."""
    count = max(1, options.messages // SHARE)
    for subject in SUBJECTS:
        _run(subject, WARM_UP)
    schedule = [subject for _ in range(options.rounds) for subject in SUBJECTS]
    runs = [_run(subject, count) for subject in steps("Decoding", schedule)]
    legend = f"Decoding {count:,} messages, {options.rounds} rounds. {LEGEND}"
    return Result(table(runs), legend, [asdict(each) for each in runs])


def table(runs: Sequence[Run]) -> Table:
    """The runs by pipeline, for a person to read."""
    made = figures_table(1, "pipeline", "messages/s", "ratio", "rows out", "CPU µs", "beyond")
    idle = [each for each in runs if each.subject == NO_OP]
    for subject in SUBJECTS:
        own = [each for each in runs if each.subject == subject]
        pairs = list(zip(own, idle, strict=True))
        made.add_row(
            subject,
            f"{median(each.rate for each in own):,.0f}",
            f"{median(each.rate / other.rate for each, other in pairs):.2f}",
            f"{own[0].rows:,}",
            f"{median(each.cpu_us for each in own):.1f}",
            f"{median(each.cpu_us - other.cpu_us for each, other in pairs):.1f}",
        )
    return made


def build(subject: str, count: int) -> beam.Pipeline:
    """The pipeline over so many messages."""
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
    messages = pipeline | "number" >> beam.Create(range(count)) | "make messages" >> beam.Map(message)
    if subject == NO_OP:
        rows = messages | NO_OP >> beam.Map(_same)
    else:
        rows, _ = messages | subject >> transform_of(PipelineRequest.of(stream=STREAM_NAME, pipeline=subject))
    rows | "count" >> beam.ParDo(_Count())
    return pipeline


def message(number: int) -> Message:
    """One of DIFFERENT messages that are prepared: making them is not measured."""
    return messages()[number % DIFFERENT]


@cache
def messages() -> list[Message]:
    """Oracle requests as Pub/Sub brings them, with the attributes of a replay."""
    lines = islice(OracleRequests(minutes=DIFFERENT).lines(), DIFFERENT)
    attributes = {EVENT_TIME: "2021-05-01T00:00:00.000000Z", STREAM: STREAM_NAME, EPOCH: str(FIRST_EPOCH)}
    named = ((f"{STREAM_NAME}/1619827200000000/{number}/0", line) for number, line in enumerate(lines))
    return [Message(row_id, line.rstrip(), attributes | {ROW_ID: row_id}) for row_id, line in named]


class _Count(beam.DoFn):  # type: ignore[misc]
    """Counts a bundle's elements, and tells Beam of them at its end."""

    rows = Metrics.counter(STREAM_NAME, "rows")

    def start_bundle(self) -> None:
        self._seen = 0

    def process(self, element: object) -> None:
        self._seen += 1

    def finish_bundle(self) -> None:
        self.rows.inc(self._seen)


def _same(element: Any) -> Any:
    return element


def _run(subject: str, count: int) -> Run:
    pipeline, watch = build(subject, count), Stopwatch(psutil.Process())
    with watch:
        result = pipeline.run()
        result.wait_until_finish()
    counted = result.metrics().query(MetricsFilter().with_namespace(STREAM_NAME).with_name("rows"))["counters"]
    return Run(subject, count, counted[0].result, watch.seconds, watch.cpu_seconds)
