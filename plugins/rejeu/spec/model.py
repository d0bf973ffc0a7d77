"""StreamSpec: what a feed *is*, as its YAML file says it; frozen, complete, and refused whole if anything is wrong.

Nothing here says which operator or service runs a feed: that is the target's business (`rejeu.target`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    model_validator,
)

from rejeu.spec.names import OBSERVED_AT, StreamName, dashed
from rejeu.spec.pipelines import PIPELINES, Pipeline
from rejeu.spec.probes import PROBES
from rejeu.spec.secrets import HeaderTexts, refuse_open_options
from rejeu.spec.shapes import Words
from rejeu.spec.sources import GeneratorText, ReaderName
from rejeu.spec.types import (
    ColumnName,
    Cron,
    Duration,
    NameIn,
    OneOrList,
    Speed,
    TableName,
    TimeUnit,
    TopicName,
    WebAddress,
    filled,
    path_of,
)
from rejeu.spec.workers import Workers
from rejeu.timeline import HandOver

SOONEST: Final = timedelta(seconds=1)
LONGEST_ID: Final = 255
"""Characters of a subscription's id, by Pub/Sub's rule."""

Metric = Literal[
    "pubsub.googleapis.com/topic/send_request_latencies",
    "pubsub.googleapis.com/topic/send_request_count",
    "pubsub.googleapis.com/topic/send_message_operation_count",
]


class Part(BaseModel):
    """Every part of a spec: unknown fields are refused, nothing changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Source(Part):
    """Where the replayed rows come from: one of `table`, `query`, `files`, `generator`, `api` and `reader`."""

    table: TableName | None = None
    """A BigQuery table, `dataset.table` or `project.dataset.table`."""
    query: str | None = None
    """A BigQuery query."""
    files: Annotated[str, path_of("bucket")] | None = None
    """Parquet or newline-delimited JSON: a path or `gs://` URI; `*` is allowed, `{bucket}` is the target's bucket."""
    generator: GeneratorText | None = None
    """A simulator, `name` or `name:option=value,...`. Yours stands beside the specs."""
    api: Annotated[WebAddress, path_of("open_data", secrets=True)] | None = None
    """A URL that is asked again and again for a list `records`; `{open_data}` is the target's open-data server.
    `{env:NAME}`, `{secret:NAME}` and `{connection:ID}` stand for secrets, here, in `headers` and in `options`."""
    headers: HeaderTexts = {}
    """What the API is asked with besides, such as `X-Api-Key: "{secret:stations-key}"`."""
    raw: Annotated[str, path_of("bucket", "partition")] | None = None
    """Where the API's answers are kept first: a folder or `gs://` URI for each day, which `{partition}` stands for."""
    reader: ReaderName | None = None
    """A source of your own, by its name: it stands beside the specs."""
    options: Annotated[dict[str, JsonValue], AfterValidator(refuse_open_options)] = {}
    """What the reader is given."""
    every: Duration = timedelta(minutes=1)
    """How often the API is asked, in whole seconds; the speed divides it."""
    time: ColumnName | None = None
    """The source's event-time column; default: the stream's `event_time`."""
    time_unit: TimeUnit | None = None
    """The unit of an integer event time, since the epoch: `s`, `ms` or `us`."""
    key: tuple[ColumnName, ...] | None = None
    """Columns that name a row of the source; default: the stream's `key`."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("table", "query", "files", "generator", "api", "reader") if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(
                f"it has {found}: it must have exactly one of table, query, files, generator, api and reader"
            )
        if self.options and self.reader is None:
            raise ValueError(f"options has {', '.join(self.options)}: only a reader has options; name one")
        if self.headers and self.api is None:
            raise ValueError(f"headers has {', '.join(self.headers)}: only an API is asked with headers; name one")
        if self.api and filled(self.raw or "").count("partition") != 1:
            raise ValueError(
                f"raw is {self.raw!r}: an API's answers need a place, with {{partition}} once, for the day"
            )
        if self.api and self.every < SOONEST:
            raise ValueError(f"every is {self.every.total_seconds():g}s: an API is asked once a second at most")
        return self


class Batch(Part):
    """The history: files that a load job brings into the batch table, one partition a run."""

    files: Annotated[str, path_of("bucket", "partition")]
    """Raw newline-delimited JSON; `{partition}` is the day (2021-04-30), `{bucket}` the target's bucket."""
    table: TableName
    """The batch table, partitioned by day of the event time."""
    schedule: Cron = "0 1 * * *"
    """When the day before is loaded: cron, UTC."""
    loaded_by: Literal["rejeu", "elsewhere"] = "rejeu"
    """`elsewhere`: a load job outside Airflow fills the table, and its completion is waited for."""

    @model_validator(mode="after")
    def _partitioned(self) -> Self:
        if "partition" not in filled(self.files):
            raise ValueError(
                f"files is {self.files!r}: it must say where one day's files lie; put {{partition}} into the path"
            )
        return self


class Window(Part):
    """How a pipeline that aggregates cuts event time: `fixed` or `session`, not both."""

    fixed: Duration | None = None
    """Windows of this length, aligned to the epoch."""
    session: Duration | None = None
    """One window for each burst of records of a key, ended by so long a pause."""
    early: Duration = timedelta(seconds=1)
    """How often the row of a window that is still open is written anew, in seconds that pass."""
    lateness: Duration | None = None
    """How long, in event time, a window is kept for records that come late; they are dropped after it. Default: for
    ever, so that history counts exactly at any speed."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.fixed is not None and self.session is not None:
            raise ValueError("it has fixed and session: windows are of one length, or sessions; write one of them")
        return self


class Live(Part):
    """The stream: its topic, the pipeline that reads it, and the tables that it fills."""

    topic: TopicName
    """The topic's id in the target's project."""
    pipeline: Annotated[str, NameIn(PIPELINES)] = "passthrough"
    """What makes rows of messages; `passthrough` writes the row as it is. Yours stands beside the specs."""
    window: Window | None = None
    """The windows of a pipeline that aggregates; default: fixed ones, as long as the pipeline says."""
    table: TableName
    """The streaming table."""
    view: TableName | None = None
    """The live view: batch and streaming rows, each once; default: the streaming table's name and `_live`."""
    dead_letters: TableName | None = None
    """Where rows go that cannot be written; default: the streaming table's name and `_dead_letters`."""
    hand_over: HandOver | None = None
    """Where the stream starts after the batch: at the `next_row`, or at the `next_minute`; streams that aggregate count
    the batch's `last_window` anew."""
    workers: Workers = Workers()
    """The machines of the streaming job, where it runs on Dataflow."""

    @model_validator(mode="after")
    def _windows_fit_the_pipeline(self) -> Self:
        windowed = PIPELINES[self.pipeline].windows is not None
        if self.window is not None and not windowed:
            raise ValueError(f"window is given, and pipeline {self.pipeline} has no windows: leave it out")
        if self.hand_over is not None and windowed != (self.hand_over is HandOver.LAST_WINDOW):
            choice = "last_window" if windowed else "next_row or next_minute"
            raise ValueError(f"hand_over is {self.hand_over}: with pipeline {self.pipeline} it must be {choice}")
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
        tuple[Annotated[str, NameIn(PROBES)], ...], BeforeValidator(_names), Field(min_length=1), OneOrList()
    ] = ("heartbeat",)
    """One probe or several. `heartbeat`: the replay's own state says when its next row is due. `tap`: a second
    subscription says what really arrived. `metric`: Cloud Monitoring counts what was published, minutes later. Yours
    stands beside the specs."""
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

    stream: StreamName
    """The feed's name: letters, digits and underscores; DAGs, jobs and state are named after it."""
    description: Annotated[str, Words(2_000, line=False)] = ""
    """What the feed is, for the people who see its DAGs."""
    owner: Annotated[str, Words(100)] = "rejeu"
    """Who looks after it."""
    tags: tuple[Annotated[str, Words(100)], ...] = ()
    """More tags for its DAGs."""
    event_time: ColumnName
    """The column of the written rows that says when each happened (TIMESTAMP)."""
    key: tuple[ColumnName, ...] = ()
    """Columns that name a written row."""
    cluster: Annotated[tuple[ColumnName, ...], Field(max_length=4)] = ()
    """Columns that the tables are clustered by, at most four."""
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
    def window(self) -> Window | None:
        """The windows that the stream's rows are counted in, fixed or sessions; None where it counts nothing."""
        windows, window = self.pipeline.windows, self.live.window or Window()
        if windows is None or window.fixed or window.session:
            return window if windows else None
        return window.model_copy(update={"fixed": timedelta(seconds=windows.seconds)})

    @property
    def hand_over(self) -> HandOver:
        return self.live.hand_over or (HandOver.LAST_WINDOW if self.pipeline.windows else HandOver.NEXT_ROW)

    @property
    def subscription(self) -> str:
        """The id of the streaming job's subscription."""
        return f"{self.live.topic}-{dashed(self.stream)}"

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
        due = [name for name in self.watchdog.probe if PROBES[name].knows_due]
        if self.replay is None and due:
            raise ValueError(
                f"watchdog.probe has {due[0]!r} and there is no replay: what somebody else publishes has no heartbeat "
                "of ours; watch it with probe: tap or metric"
            )
        return self

    @model_validator(mode="after")
    def _subscriptions_can_be(self) -> Self:
        if len(self.tap) > LONGEST_ID:
            raise ValueError(
                f"live.topic has {len(self.live.topic)} characters, and the subscription {self.tap!r} {len(self.tap)}: "
                f"Pub/Sub takes {LONGEST_ID}; give the topic or the stream a shorter name"
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
    def _sessions_know_no_day(self) -> Self:
        if self.batch is not None and self.live.window is not None and self.live.window.session is not None:
            raise ValueError(
                "live.window.session is given beside a batch: a session may begin in one day's files and end in the "
                "stream, which neither sees whole; leave batch out, or take fixed windows"
            )
        return self

    @model_validator(mode="after")
    def _event_time_is_the_windows(self) -> Self:
        windows = self.pipeline.windows
        if windows is not None and self.event_time != windows.start:
            rule = f"pipeline {self.live.pipeline} writes one row a window"
            raise ValueError(f"event_time is {self.event_time!r}: {rule}, so it must be {windows.start}")
        if windows is not None and self.replay is not None:
            for field in ("time", "key"):
                if getattr(self.replay.source, field) is None:
                    raise ValueError(
                        f"replay.source.{field} is missing: pipeline {self.live.pipeline} writes other rows than it "
                        "reads, so name the source's own column"
                    )
        return self

    @model_validator(mode="after")
    def _an_api_has_no_columns(self) -> Self:
        asked = self.replay is not None and self.replay.source.api is not None
        if asked and (self.source_time != OBSERVED_AT or self.pipeline.columns is None):
            given = f"event_time is {self.source_time!r} and live.pipeline {self.live.pipeline}"
            raise ValueError(f"{given}: with an API they must be {OBSERVED_AT} and a pipeline with columns of its own")
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
