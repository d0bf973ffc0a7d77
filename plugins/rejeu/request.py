"""What a job is asked to do, as typed values that travel as arguments: containers take argv, never YAML.

One parser serves the CLI, the DAGs and the containers: a request's fields are its flags.
"""

from __future__ import annotations

import argparse
import types
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from rejeu.errors import RequestError
from rejeu.timeline import format_instant, parse_instant

MAX: Literal["max"] = "max"
CURSOR: Literal["cursor"] = "cursor"
STREAM_NAME = r"^[a-z][a-z0-9_]{2,62}$"


def _speed(value: object) -> float | str:
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


class ReplayRequest(Request):
    """Publish a source's rows to a topic at their own pace.

    Exactly one of --table, --query, --file and --generator names the source.

    Exit codes: 0 all rows published, or stopped on request with the cursor saved; 2 wrong arguments;
    3 the source or a row; 4 the topic; 5 another replay holds the stream; 6 another replay took over;
    7 the state store.
    """

    program = "rejeu replay"
    module = "rejeu.replay"

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
    from_: Instant | Literal["cursor"] | None = Field(
        None, description="first event time, inclusive, or `cursor` to go on; default: the source's first row"
    )
    until: Instant | None = Field(None, description="last event time, exclusive; default: the source's last row")
    speed: Speed = Field(1.0, description="event seconds per second, or `max` for no waiting")
    state: str | None = Field(None, description="state store, sqlite:PATH; default: none, so no resuming")
    report: str | None = Field(None, description="write the report to this file, as JSON")
    lease_seconds: float = Field(3.0, gt=0, le=600, description="how long a silent holder keeps the stream")
    checkpoint_seconds: float = Field(0.2, gt=0, le=60, description="how often cursor and heartbeat are saved")
    patience_seconds: float = Field(60.0, gt=0, description="how long an absent broker is waited for")

    @property
    def job_name(self) -> str:
        return f"rejeu-replay-{self.stream.replace('_', '-')}"

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
        if self.from_ == CURSOR and self.state is None:
            raise ValueError("--from cursor needs --state: without a state store there is no cursor to go on from")
        return self

    @model_validator(mode="after")
    def _full_topic(self) -> Self:
        if not self.topic.startswith("projects/") and self.project is None:
            raise ValueError(f"--topic {self.topic} has no project: write projects/P/topics/T, or give --project")
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
