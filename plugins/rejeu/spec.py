"""StreamSpec: what a feed *is*, as its YAML file says it; frozen, complete, and refused whole if anything is wrong.

Nothing here says which operator or service runs a feed: that is the target's business (`rejeu.target`).
"""

from __future__ import annotations

import re
from datetime import timedelta
from string import Formatter
from typing import Annotated, Literal, Self

from croniter import croniter
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from rejeu.pipelines import PIPELINES, Pipeline
from rejeu.request import STREAM_NAME, Speed, TimeUnit
from rejeu.timeline import HandOver

COLUMN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
TABLE = r"^([a-z][a-z0-9-]{4,28}[a-z0-9]\.)?[A-Za-z0-9_]+\.[A-Za-z0-9_-]+$"
TOPIC = r"^[A-Za-z][A-Za-z0-9_.~+%-]{2,254}$"
DURATION = r"^(\d+(?:\.\d+)?)(ms|s|m|h)$"

PROBES_SCHEMA = {
    "anyOf": [
        (one := {"type": "string", "enum": ["heartbeat", "tap", "metric"]}),
        {"type": "array", "items": one, "minItems": 1, "uniqueItems": True},
    ],
    "default": "heartbeat",
}

_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours"}


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = re.match(DURATION, str(value))
    if match is None or float(match[1]) == 0:
        raise ValueError(f"it is {value!r}: it must be a number above 0 and a unit, such as 500ms, 5s, 2m or 1h")
    try:
        return timedelta(**{_UNITS[match[2]]: float(match[1])})
    except OverflowError:
        raise ValueError(f"it is {value!r}: no clock counts that far; give seconds, minutes or hours") from None


def _cron(value: object) -> str:
    if len(str(value).split()) != 5 or not croniter.is_valid(str(value)):
        raise ValueError(f'it is {value!r}: it must be a cron expression of five fields, such as "0 1 * * *" (UTC)')
    return str(value)


def _path(*known: str) -> AfterValidator:
    """A path whose names in braces are all among those that somebody fills."""

    def check(text: str) -> str:
        named = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
        unknown = sorted(named - set(known))
        if unknown:
            fillable = " and ".join(f"{{{name}}}" for name in known)
            raise ValueError(f"it is {text!r}: nothing fills {{{unknown[0]}}}; write {fillable} only")
        return text

    return AfterValidator(check)


Duration = Annotated[
    timedelta, BeforeValidator(_duration), WithJsonSchema({"type": "string", "pattern": DURATION, "examples": ["5s"]})
]
Cron = Annotated[str, BeforeValidator(_cron)]
ColumnName = Annotated[str, Field(pattern=COLUMN)]
Metric = Literal[
    "pubsub.googleapis.com/topic/send_request_latencies",
    "pubsub.googleapis.com/topic/send_request_count",
    "pubsub.googleapis.com/topic/send_message_operation_count",
]
TableName = Annotated[str, Field(pattern=TABLE)]


class Part(BaseModel):
    """Every part of a spec: unknown fields are refused, nothing changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Source(Part):
    """Where the replayed rows come from: exactly one of `table`, `query`, `files` and `generator`."""

    table: TableName | None = None
    """A BigQuery table, `dataset.table` or `project.dataset.table`."""
    query: str | None = None
    """A BigQuery query."""
    files: Annotated[str, _path("bucket")] | None = None
    """Parquet or newline-delimited JSON: a path or `gs://` URI; `*` is allowed, `{bucket}` is the target's bucket."""
    generator: str | None = None
    """A simulator, `name` or `name:option=value,...`."""
    time: ColumnName | None = None
    """The source's event-time column; default: the stream's `event_time`."""
    time_unit: TimeUnit | None = None
    """The unit of an integer event time, since the epoch: `s`, `ms` or `us`."""
    key: tuple[ColumnName, ...] | None = None
    """Columns that name a row of the source; default: the stream's `key`."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("table", "query", "files", "generator") if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"it has {found}: it must have exactly one of table, query, files and generator")
        return self


class Batch(Part):
    """The history: files that a load job brings into the batch table, one partition a run."""

    files: Annotated[str, _path("bucket", "partition")]
    """Raw newline-delimited JSON; `{partition}` is the day (2021-04-30), `{bucket}` the target's bucket."""
    table: TableName
    """The batch table, partitioned by day of the event time."""
    schedule: Cron = "0 1 * * *"
    """When the day before is loaded: cron, UTC."""
    loaded_by: Literal["rejeu", "elsewhere"] = "rejeu"
    """`elsewhere`: a load job outside Airflow fills the table, and its completion is waited for."""

    @model_validator(mode="after")
    def _partitioned(self) -> Self:
        if "{partition}" not in self.files:
            raise ValueError(
                f"files is {self.files!r}: it must say where one day's files lie; put {{partition}} into the path"
            )
        return self


class Live(Part):
    """The stream: its topic, the pipeline that reads it, and the tables that it fills."""

    topic: Annotated[str, Field(pattern=TOPIC)]
    """The topic's id in the target's project."""
    pipeline: str = "passthrough"
    """A pipeline of `beam_jobs/`; `passthrough` writes the row as it is."""
    table: TableName
    """The streaming table."""
    view: TableName | None = None
    """The live view: batch and streaming rows, each once; default: the streaming table's name and `_live`."""
    dead_letters: TableName | None = None
    """Where rows go that cannot be written; default: the streaming table's name and `_dead_letters`."""
    hand_over: HandOver = HandOver.NEXT_ROW
    """Where the stream starts after the batch: at the `next_row`, or at the `next_minute`."""

    @model_validator(mode="after")
    def _known_pipeline(self) -> Self:
        if self.pipeline not in PIPELINES:
            raise ValueError(f"pipeline is {self.pipeline!r}: it must be one of {', '.join(sorted(PIPELINES))}")
        return self


class Replay(Part):
    """The process that publishes the rows."""

    source: Source
    speed: Speed = 1.0
    """Event seconds per second, or `max`."""
    standby: bool = False
    """Whether a second replay holds everything ready and takes over when the first one is gone."""
    ordering_key: tuple[ColumnName, ...] = ()
    """Columns of the source's key whose rows Pub/Sub delivers in order: at most 1 MB/s for each value."""


def _names(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Watchdog(Part):
    """How the signal is watched."""

    probe: Annotated[
        tuple[Literal["heartbeat", "tap", "metric"], ...],
        BeforeValidator(_names),
        Field(min_length=1),
        WithJsonSchema(PROBES_SCHEMA),
    ] = ("heartbeat",)
    """One probe or several. `heartbeat`: the replay's own state says when its next row is due. `tap`: a second
    subscription says what really arrived. `metric`: Cloud Monitoring counts what was published, minutes later."""
    silence: Duration = timedelta(seconds=5)
    """How long rows may be due and not come before the replay is relaunched."""
    grace: Duration = timedelta(seconds=30)
    """How long a replay that was just started may take until its first sign of life."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """How many relaunches may fail to bring the signal back before the watchdog gives up and calls a person."""
    metric: Metric = "pubsub.googleapis.com/topic/send_request_latencies"
    """What the probe `metric` counts: a metric of Pub/Sub's topics; the default is the quickest."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.probe)) < len(self.probe):
            raise ValueError(f"probe is {list(self.probe)}: name each probe once")
        return self


class Reconcile(Part):
    """How the streaming table is compared with its source, and what is missing published again."""

    schedule: Cron | None = "30 2 * * *"
    """When: cron, UTC; null: by hand only."""
    settle: Duration = timedelta(seconds=30)
    """How long a published row may take to its table before it counts as missing."""


class StreamSpec(Part):
    """One feed."""

    stream: Annotated[str, Field(pattern=STREAM_NAME)]
    """The feed's name: letters, digits and underscores; DAGs, jobs and state are named after it."""
    description: str = ""
    """What the feed is, for the people who see its DAGs."""
    owner: str = "rejeu"
    """Who looks after it."""
    tags: tuple[str, ...] = ()
    """More tags for its DAGs."""
    event_time: ColumnName
    """The column of the written rows that says when each happened (TIMESTAMP)."""
    key: tuple[ColumnName, ...] = ()
    """Columns that name a written row."""
    cluster: tuple[ColumnName, ...] = ()
    """Columns that the tables are clustered by."""
    batch: Batch | None = None
    live: Live
    replay: Replay | None = None
    """What publishes the rows; without it somebody else does, and the stream is only read and watched."""
    watchdog: Watchdog = Watchdog()
    reconcile: Reconcile = Reconcile()

    @property
    def pipeline(self) -> Pipeline:
        return PIPELINES[self.live.pipeline]

    @property
    def view(self) -> str:
        return self.live.view or f"{self.live.table}_live"

    @property
    def dead_letters(self) -> str:
        return self.live.dead_letters or f"{self.live.table}_dead_letters"

    @property
    def subscription(self) -> str:
        """The id of the streaming job's subscription."""
        return f"{self.live.topic}-{self.stream.replace('_', '-')}"

    @property
    def tap(self) -> str:
        """The id of the watchdog's subscription."""
        return f"{self.subscription}-tap"

    @property
    def source_time(self) -> str:
        return (self.replay and self.replay.source.time) or self.event_time

    @property
    def source_key(self) -> tuple[str, ...]:
        return self.key if self.replay is None or self.replay.source.key is None else self.replay.source.key

    @property
    def ordering_key(self) -> tuple[str, ...]:
        """Columns whose rows are delivered in order."""
        return self.replay.ordering_key if self.replay else ()

    @model_validator(mode="after")
    def _heartbeat_needs_a_replay(self) -> Self:
        if self.replay is None and "heartbeat" in self.watchdog.probe:
            raise ValueError(
                "watchdog.probe has 'heartbeat' and there is no replay: what somebody else publishes has no heartbeat "
                "of ours; watch it with probe: tap or metric"
            )
        return self

    @model_validator(mode="after")
    def _own_tables(self) -> Self:
        named = [self.live.table, self.view, self.dead_letters, *([self.batch.table] if self.batch else [])]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"table {twice[0]} is named twice: batch, streaming, view and dead letters differ")
        return self

    @model_validator(mode="after")
    def _ordering_key_is_of_the_key(self) -> Self:
        for name in self.ordering_key:
            if name not in self.source_key:
                known = ", ".join(self.source_key) or "empty"
                raise ValueError(
                    f"replay.ordering_key names {name!r}: it must be of the source's key, which is {known}"
                )
        return self

    @model_validator(mode="after")
    def _fields_exist(self) -> Self:
        if self.pipeline.columns is None:
            return self
        known = [column.name for column in self.pipeline.columns]
        for field, names in (("event_time", (self.event_time,)), ("key", self.key), ("cluster", self.cluster)):
            for name in names:
                if name not in known:
                    raise ValueError(
                        f"{field} names {name!r}: pipeline {self.live.pipeline} writes {', '.join(known)}; name one"
                    )
        return self
