"""What a job is asked to do, as typed values that travel as arguments: containers get argv, never YAML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from rejeu.errors import LeaseHeldError, LeaseLostError, PublishError, RequestError, RowError, SourceError, StateError
from rejeu.jobs.flags import Request, flag_of
from rejeu.spec.names import OBSERVED_AT, StreamName, dashed, reconcile_job, replay_job, stream_job
from rejeu.spec.secrets import Headers, RequestHeaders
from rejeu.spec.shapes import Shape
from rejeu.spec.sources import GeneratorText, Options, ReaderName, ReaderOptions
from rejeu.spec.types import LONGEST, Speed, TimeUnit, WebAddress
from rejeu.spec.workers import Workers
from rejeu.timeline import format_instant, parse_instant

CURSOR: Literal["cursor"] = "cursor"
INSTANCE: Final = Shape(r"^projects/[^/]+/instances/[^/]+$", "it must be projects/P/instances/I")


Seconds = Annotated[float, Field(le=LONGEST.total_seconds())]
"""As long as a spec's durations may be: beyond that, sums leave every calendar."""


def _instant(value: object) -> object:
    if value in (None, CURSOR):
        return value
    return parse_instant(value.isoformat() if isinstance(value, datetime) else str(value))


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of a stream, counted from 0: the rows whose key, or ordering key, hashes to it."""

    index: int
    count: int

    @classmethod
    def read(cls, value: object) -> object:
        """From `i/n`. Raises ValueError."""
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"(\d+)/(\d+)", value)
        if found is None or int(found[1]) >= int(found[2]):
            raise ValueError(f"it is {value}: it must be i/n, with i from 0 to n - 1, such as 0/4")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def suffix(self) -> str:
        """What the names of its job and its state end with, so that each shard has its own."""
        return f"-{self.index}-of-{self.count}"


Instant = Annotated[datetime, BeforeValidator(_instant)]


class SourceRequest(Request):
    """A source, which of its rows are meant, and the topic that they belong to."""

    topic: str = Field(description="projects/P/topics/T, or T in the project of the environment")
    stream: StreamName = Field("adhoc", description="the stream's name: state, logs, row ids")
    project: str | None = Field(None, description="Google Cloud project that pays for reading")
    table: str | None = Field(None, description="source: a BigQuery table, [project.]dataset.table")
    query: str | None = Field(None, description="source: a BigQuery query")
    file: str | None = Field(None, description="source: Parquet or NDJSON, a path or gs:// URI, * allowed")
    generator: GeneratorText | None = Field(None, description="source: a simulator's name, name:option=value,...")
    api: WebAddress | None = Field(
        None, description="source: an API's URL, whose answers are JSON with a list `records`"
    )
    headers: RequestHeaders = Field(
        Headers({}), description="what the API is asked with besides, as JSON; {env:NAME} and the like for secrets"
    )
    reader: ReaderName | None = Field(None, description="source: one of your own, by its name")
    options: ReaderOptions = Field(Options({}), description="what the reader is given, as JSON")
    raw: str | None = Field(
        None, description="where an API's answers are kept first, a path or gs:// URI with {partition} for the day"
    )
    every_seconds: Seconds = Field(60.0, ge=1, description="how often an API is asked; --speed divides it")
    event_time: str = Field(description="the column that says when a row happened")
    time_unit: TimeUnit | None = Field(None, description="unit of an integer event time: s, ms or us since the epoch")
    key: tuple[str, ...] = Field((), description="columns that name a row, a.b for nested; default: the whole row")
    from_: Instant | None = Field(None, description="first event time, inclusive; default: the source's first row")
    until: Instant | None = Field(None, description="last event time, exclusive; default: the source's last row")

    @property
    def topic_path(self) -> str:
        """The topic as Pub/Sub names it."""
        return self.topic if self.topic.startswith("projects/") else f"projects/{self.project}/topics/{self.topic}"

    @property
    def paying_project(self) -> str:
        """The project that pays for reading: the request's, else the topic's."""
        return self.project or self.topic_path.split("/")[1]

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("table", "query", "file", "generator", "api", "reader") if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(flag_of(name) for name in given) or "none"
            rule = "name exactly one source of --table, --query, --file, --generator, --api and --reader"
            raise ValueError(f"{found} given: {rule}")
        if self.options.root and self.reader is None:
            names = ", ".join(self.options.root)
            raise ValueError(f"--options has {names}: only a reader has options; name one with --reader")
        if self.headers.root and self.api is None:
            names = ", ".join(self.headers.root)
            raise ValueError(f"--headers has {names}: only an API is asked with headers; name one with --api")
        return self

    @model_validator(mode="after")
    def _an_api_keeps_its_answers(self) -> Self:
        if self.api and "{partition}" not in (self.raw or ""):
            raise ValueError(f"--raw is {self.raw}: an API's answers need a place, with {{partition}} for the day")
        if self.api and self.event_time != OBSERVED_AT:
            raise ValueError(f"--event-time is {self.event_time}: with --api it must be {OBSERVED_AT}")
        return self

    @model_validator(mode="after")
    def _window(self) -> Self:
        if isinstance(self.from_, datetime) and self.until is not None and self.from_ >= self.until:
            window = f"--from {format_instant(self.from_)} is not before --until {format_instant(self.until)}"
            raise ValueError(f"{window}: give a window that holds at least one instant")
        return self

    @model_validator(mode="after")
    def _full_topic(self) -> Self:
        if not self.topic.startswith("projects/") and self.project is None:
            raise ValueError(f"--topic {self.topic} has no project: write projects/P/topics/T, or give --project")
        return self


class ReplayRequest(SourceRequest):
    """Publish a source's rows to a topic at their own pace.

    Exactly one of --table, --query, --file, --generator, --api and --reader names the source.
    """

    program = "rejeu replay"
    module = "rejeu.replay"
    outcomes: ClassVar = {0: "All rows are published, or it was stopped on request and the cursor is saved."}
    errors = (RequestError, SourceError, RowError, PublishError, LeaseHeldError, LeaseLostError, StateError)

    from_: Instant | Literal["cursor"] | None = Field(  # type: ignore[assignment]
        None, description="first event time, inclusive, or `cursor` to go on; default: the source's first row"
    )
    speed: Speed = Field(1.0, description="event seconds per second, or `max` for no waiting")
    ordering_key: tuple[str, ...] = Field(
        (), description="columns of --key whose rows Pub/Sub delivers in order; at most 1 MB/s for each value"
    )
    shard: Annotated[Shard, BeforeValidator(Shard.read)] | None = Field(
        None, description="i/n: only the rows whose key hashes to i of n; n such replays publish every row once"
    )
    standby: bool = Field(False, description="keep rows ready, and take over when the stream's holder is gone")
    twin: bool = Field(False, description="the second of a pair: its job has a name of its own")
    state: str | None = Field(
        None, description="state store, sqlite:PATH or gs://BUCKET/PREFIX; default: none, so no resuming"
    )
    report: str | None = Field(None, description="write the report to this file, as JSON")
    lease_seconds: float | None = Field(
        None, gt=0, le=600, description="how long a silent holder keeps the stream; default: what suits the state store"
    )
    checkpoint_seconds: float | None = Field(
        None, gt=0, le=60, description="how often cursor and heartbeat are saved; default: what suits the state store"
    )
    patience_seconds: Seconds = Field(60.0, gt=0, description="how long to wait for a broker that does not answer")

    @property
    def job_name(self) -> str:
        return replay_job(self.stream, self.shard.suffix if self.shard else "", twin=self.twin)

    @property
    def resumes(self) -> bool:
        """Whether it goes on at the cursor, on the timeline of the replay before it."""
        return self.standby or self.from_ == CURSOR

    @property
    def state_name(self) -> str:
        """The name of its document in the state store: each shard has its own lease and cursor."""
        return self.stream + (self.shard.suffix if self.shard else "")

    @model_validator(mode="after")
    def _cursor_needs_a_state(self) -> Self:
        if self.from_ == CURSOR and self.state is None:
            raise ValueError("--from cursor needs --state: without a state store there is no cursor to go on from")
        return self

    @model_validator(mode="after")
    def _ordering_key_is_of_the_key(self) -> Self:
        for name in self.ordering_key:
            if name not in self.key:
                known = f"--key {','.join(self.key)}" if self.key else "--key, which is not given"
                raise ValueError(f"--ordering-key names {name!r}: it must be among the columns of {known}")
        return self

    @model_validator(mode="after")
    def _standby_needs_a_state(self) -> Self:
        if self.standby and (self.state is None or isinstance(self.from_, datetime)):
            raise ValueError("--standby needs --state and no --from: it goes on where the stream's holder ended")
        return self


class PipelineRequest(Request):
    """Which pipeline turns messages into rows, and how."""

    stream: StreamName = Field(description="the stream's name")
    pipeline: str = Field(description="the pipeline's name, as in rejeu.spec.pipelines")
    window_seconds: Seconds | None = Field(None, gt=0, description="fixed windows of this length, in event time")
    session_seconds: Seconds | None = Field(
        None, gt=0, description="instead of fixed windows: sessions, each ended by a pause this long, in event time"
    )
    early_seconds: Seconds = Field(1.0, gt=0, description="how often the row of an open window is written again")
    lateness_seconds: Seconds | None = Field(
        None, gt=0, description="how long a window waits for late messages, in event time; default: for ever"
    )
    bigtable: Annotated[str, INSTANCE] | None = Field(
        None, description="Bigtable instance that serves rows, projects/P/instances/I"
    )

    @model_validator(mode="after")
    def _one_kind_of_window(self) -> Self:
        if self.window_seconds is not None and self.session_seconds is not None:
            raise ValueError("--window-seconds and --session-seconds given: windows are fixed, or sessions; give one")
        return self


class StreamJobRequest(PipelineRequest):
    """Read messages from a subscription, and write the pipeline's rows to a table."""

    program = "python -m beam_jobs.stream"
    module = "beam_jobs.stream"
    ready_text = "streaming job is running"

    subscription: str = Field(description="projects/P/subscriptions/S")
    table: str = Field(description="streaming table, project.dataset.table; it must exist")
    dead_letters: str = Field(description="table for messages and rows that cannot be written, project.dataset.table")
    event_time: str = Field(description="the output column that says when a row happened")
    workers: Annotated[Workers, BeforeValidator(Workers.read)] = Field(
        Workers(), description="Dataflow's workers for this job, as JSON; ignored elsewhere"
    )

    @property
    def job_name(self) -> str:
        return stream_job(self.stream)


class BatchJobRequest(PipelineRequest):
    """Read raw files, and write the pipeline's rows as files for one load job."""

    program = "python -m beam_jobs.batch"
    module = "beam_jobs.batch"

    files: str = Field(description="raw newline-delimited JSON, a path or gs:// URI, * allowed")
    output: str = Field(description="folder for the prepared files: rows-*.ndjson and dead-*.ndjson below it")
    event_time: str = Field(description="the output column that says when a row happened")
    partition: str = Field(description="the partition that these files fill, for the job's name")

    @property
    def job_name(self) -> str:
        """Includes the folder's name: two runs for one day are two jobs, each with a folder of its own."""
        return f"rejeu-batch-{dashed(self.stream)}-{self.partition}-{self.output.rpartition('/')[2]}"


class ReconcileRequest(SourceRequest):
    """Compare a source with what its stream wrote, and publish again what is missing."""

    program = "python -m beam_jobs.reconcile"
    module = "beam_jobs.reconcile"
    outcomes: ClassVar = {0: "Nothing is missing at the end.", 1: "Something is still missing."}
    errors = (RequestError, SourceError, PublishError)

    until: Instant = Field(description="last event time, exclusive; never beyond the stream's cursor")
    pipeline: str = Field(description="the pipeline's name, as in rejeu.spec.pipelines")
    streaming_table: str = Field(description="the streaming job's table, project.dataset.table")
    streaming_time: str = Field(description="its column that says when a row happened")
    dead_letters: str = Field(description="table of messages and rows that could not be written, project.dataset.table")
    report: str | None = Field(None, description="write the result here, as JSON: a path or gs:// URI")
    settle_seconds: Seconds = Field(30.0, ge=0, description="how long a published row may take to reach its table")
    patience_seconds: Seconds = Field(120.0, gt=0, description="how long to wait for the next missing row")

    @property
    def job_name(self) -> str:
        return reconcile_job(self.stream)

    @property
    def decoding(self) -> PipelineRequest:
        """The pipeline that the streaming job runs."""
        return PipelineRequest.of(stream=self.stream, pipeline=self.pipeline)

    @property
    def reading(self) -> ReplayRequest:
        """The replay that reads the same rows."""
        return ReplayRequest(**{name: getattr(self, name) for name in SourceRequest.model_fields})
