"""What a job is asked to do, as typed values that travel as arguments: containers take argv, never YAML.

One parser serves the CLI, the DAGs and the containers: a request's fields are its flags.
"""

from __future__ import annotations

import argparse
import re
import types
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from rejeu.errors import RequestError
from rejeu.timeline import format_instant, parse_instant

MAX: Literal["max"] = "max"
CURSOR: Literal["cursor"] = "cursor"
SHARD_SUFFIX = r"(-\d+-of-\d+)?"
"""What follows a stream's name in that of a shard's job and state: `Shard.suffix`, or nothing."""
STREAM_NAME = r"^[a-z][a-z0-9_]{2,62}$"


def _speed(value: object) -> float | Literal["max"]:
    if value == MAX:
        return MAX
    try:
        speed = float(str(value))
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise ValueError(f'it is {value}: it must be a number above 0, or "{MAX}"')
    return speed


def _instant(value: object) -> object:
    if value in (None, CURSOR):
        return value
    return parse_instant(value.isoformat() if isinstance(value, datetime) else str(value))


@dataclass(frozen=True)
class Shard:
    """One of `count` equal parts of a stream, from 0: it has the rows whose key, or ordering key, hashes to it."""

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
        """What tells its job and its state from those of the other shards."""
        return f"-{self.index}-of-{self.count}"


def parse_speed(text: str) -> Speed:
    """A speed as a person writes it. Raises RequestError."""
    try:
        return _speed(text)
    except ValueError as error:
        raise RequestError(f"speed: {error}") from None


Speed = Annotated[float | Literal["max"], BeforeValidator(_speed)]
"""Event seconds per wall second; `max` does not wait at all."""
Instant = Annotated[datetime, BeforeValidator(_instant)]
TimeUnit = Literal["s", "ms", "us"]


class Request(BaseModel):
    """A frozen model whose fields are flags: `from_argv(to_argv())` is the same request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    program: ClassVar[str]
    module: ClassVar[str]
    ready_text: ClassVar[str | None] = None

    def to_argv(self) -> list[str]:
        """The flags that say this request; fields at their default are left out."""
        argv: list[str] = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value == field.get_default(call_default_factory=True):
                continue
            # One word with its value, which may begin with a dash.
            argv.append(_flag(name) if value is True else f"{_flag(name)}={_to_text(value)}")
        return argv

    @classmethod
    def parser(cls) -> argparse.ArgumentParser:
        """The parser that this request's fields make."""
        parser = argparse.ArgumentParser(
            prog=cls.program, description=cls.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        for name, field in cls.model_fields.items():
            kind = field.annotation
            help_text = (field.description or "").replace("%", "%%")
            if kind is bool:
                parser.add_argument(_flag(name), dest=name, action="store_true", default=None, help=help_text)
            else:
                metavar = _flag(name)[2:].upper().replace("-", "_")
                parser.add_argument(
                    _flag(name), dest=name, help=help_text, metavar=metavar, required=field.is_required()
                )
        return parser

    @classmethod
    def from_argv(cls, argv: Sequence[str]) -> Self:
        """Read the flags. Raises RequestError for a wrong value; a wrong flag ends as argparse ends, with 2."""
        given = {name: value for name, value in vars(cls.parser().parse_args(list(argv))).items() if value is not None}
        for name, field in cls.model_fields.items():
            if name in given and _is_tuple(field.annotation):
                given[name] = tuple(part.strip() for part in given[name].split(",") if part.strip())
        return cls.of(**given)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Build the request; raises RequestError, in the words a person reads, where a value is wrong."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise RequestError("; ".join(_reason(detail) for detail in error.errors())) from None


def explain(detail: Any) -> str:
    """What pydantic found, as the value and the rule; the rule alone where the value is a whole mapping."""
    message = str(detail["msg"]).removeprefix("Value error, ")
    if "it is" in message or isinstance(detail["input"], dict):
        return message
    return f"it is {detail['input']!r}: {message}"


def _flag(name: str) -> str:
    return "--" + name.rstrip("_").replace("_", "-")


def _is_tuple(kind: Any) -> bool:
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return any(get_origin(each) is tuple for each in kinds)


def _to_text(value: object) -> str:
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return str(value)


def _reason(detail: Any) -> str:
    field = _flag(str(detail["loc"][0])) if detail["loc"] else ""
    return f"{field}: {explain(detail)}".removeprefix(": ")


class SourceRequest(Request):
    """What names a source's rows, the part of them that is meant, and the topic that they belong to."""

    topic: str = Field(description="projects/P/topics/T, or T in the project of the environment")
    stream: str = Field("adhoc", pattern=STREAM_NAME, description="the stream's name: state, logs, row ids")
    project: str | None = Field(None, description="Google Cloud project that pays for reading")
    table: str | None = Field(None, description="source: a BigQuery table, [project.]dataset.table")
    query: str | None = Field(None, description="source: a BigQuery query")
    file: str | None = Field(None, description="source: Parquet or NDJSON, a path or gs:// URI, * allowed")
    generator: str | None = Field(None, description="source: a simulator's name, name:option=value,...")
    event_time: str = Field(description="the column that says when a row happened")
    time_unit: TimeUnit | None = Field(None, description="of an integer event time: s, ms or us since the epoch")
    key: tuple[str, ...] = Field((), description="columns that name a row, a.b for nested; default: the whole row")
    from_: Instant | None = Field(None, description="first event time, inclusive; default: the source's first row")
    until: Instant | None = Field(None, description="last event time, exclusive; default: the source's last row")

    @property
    def topic_path(self) -> str:
        """The topic as Pub/Sub names it."""
        return self.topic if self.topic.startswith("projects/") else f"projects/{self.project}/topics/{self.topic}"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("table", "query", "file", "generator") if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(_flag(name) for name in given) or "none"
            raise ValueError(f"{found} given: name exactly one source of --table, --query, --file and --generator")
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

    Exactly one of --table, --query, --file and --generator names the source.

    Exit codes: 0 all rows published, or stopped on request with the cursor saved; 2 wrong arguments;
    3 the source or a row; 4 the topic; 5 another replay holds the stream; 6 another replay took over;
    7 the state store.
    """

    program = "rejeu replay"
    module = "rejeu.replay"

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
    standby: bool = Field(False, description="hold everything ready, and take over when the stream's holder is gone")
    twin: bool = Field(False, description="the other one of a pair, as a job of a name of its own")
    state: str | None = Field(
        None, description="state store, sqlite:PATH or gs://BUCKET/PREFIX; default: none, so no resuming"
    )
    report: str | None = Field(None, description="write the report to this file, as JSON")
    lease_seconds: float | None = Field(
        None, gt=0, le=600, description="how long a silent holder keeps the stream; default: what the state store bears"
    )
    checkpoint_seconds: float | None = Field(
        None, gt=0, le=60, description="how often cursor and heartbeat are saved; default: what the state store bears"
    )
    patience_seconds: float = Field(60.0, gt=0, description="how long an absent broker is waited for")

    @property
    def job_name(self) -> str:
        shard = self.shard.suffix if self.shard else ""
        return f"rejeu-replay-{self.stream.replace('_', '-')}{shard}{'-twin' if self.twin else ''}"

    @property
    def resumes(self) -> bool:
        """Whether it goes on at the cursor, by the timeline of the replay before it."""
        return self.standby or self.from_ == CURSOR

    @property
    def state_name(self) -> str:
        """The name of the state store's document: each shard has a lease and a cursor of its own."""
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


class StreamJobRequest(Request):
    """Read messages from a subscription, and write what the pipeline makes of them to a table."""

    program = "rejeu stream"
    module = "beam_jobs.stream"
    ready_text = "streaming job is running"

    stream: str = Field(pattern=STREAM_NAME, description="the stream's name")
    pipeline: str = Field(description="the pipeline's name, as in rejeu.pipelines")
    subscription: str = Field(description="projects/P/subscriptions/S")
    table: str = Field(description="streaming table, project.dataset.table; it exists already")
    dead_letters: str = Field(description="table for what cannot be written, project.dataset.table")
    event_time: str = Field(description="the output column that says when a row happened")

    @property
    def job_name(self) -> str:
        return f"rejeu-stream-{self.stream.replace('_', '-')}"


class BatchJobRequest(Request):
    """Read raw files, and write what the pipeline makes of them as files for one load job."""

    program = "rejeu batch"
    module = "beam_jobs.batch"

    stream: str = Field(pattern=STREAM_NAME, description="the stream's name")
    pipeline: str = Field(description="the pipeline's name, as in rejeu.pipelines")
    files: str = Field(description="raw newline-delimited JSON, a path or gs:// URI, * allowed")
    output: str = Field(description="folder for the prepared files: rows-*.ndjson and dead-*.ndjson below it")
    event_time: str = Field(description="the output column that says when a row happened")
    partition: str = Field(description="the partition these files make, for the job's name")

    @property
    def job_name(self) -> str:
        """Two runs for one day are two jobs, for each has a folder of its own."""
        return f"rejeu-batch-{self.stream.replace('_', '-')}-{self.partition}-{self.output.rpartition('/')[2]}"


class ReconcileRequest(SourceRequest):
    """Compare a source with what its stream wrote, and publish again what is missing.

    Exit codes: 0 nothing is missing at the end; 1 something is; 2 wrong arguments; 3 the source, or BigQuery; 4 the
    topic.
    """

    program = "rejeu reconcile"
    module = "beam_jobs.reconcile"

    until: Instant = Field(description="last event time, exclusive; never beyond the stream's cursor")
    pipeline: str = Field(description="the pipeline's name, as in rejeu.pipelines")
    streaming_table: str = Field(description="what the streaming job writes, project.dataset.table")
    streaming_time: str = Field(description="its column that says when a row happened")
    dead_letters: str = Field(description="what holds the rows that could not be written, project.dataset.table")
    report: str | None = Field(None, description="write what was found here, as JSON: a path or gs:// URI")
    settle_seconds: float = Field(30.0, ge=0, description="how long a published row may take to its table")
    patience_seconds: float = Field(120.0, gt=0, description="how long it is waited for the next missing row to come")

    @property
    def job_name(self) -> str:
        return f"rejeu-reconcile-{self.stream.replace('_', '-')}"

    @property
    def reading(self) -> ReplayRequest:
        """The replay that reads the same rows."""
        return ReplayRequest(**{name: getattr(self, name) for name in SourceRequest.model_fields})
