"""What the DAGs decide and ask for, without Airflow: where a replay starts, and the requests that start jobs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from rejeu.errors import RequestError
from rejeu.ports import StateStore
from rejeu.request import CURSOR, BatchJobRequest, ReplayRequest, StreamJobRequest
from rejeu.spec.model import Replay, StreamSpec
from rejeu.spec.names import SHARD_SUFFIX
from rejeu.spec.types import Speed
from rejeu.state.documents import stream_names
from rejeu.state.lease import update_state
from rejeu.state.model import Status, StreamState, forgive
from rejeu.target import Target
from rejeu.timeline import MICROSECOND, HandOver, Position, format_instant, from_us, hand_over_instant, to_us


class Start(StrEnum):
    """How `live` brings a stream to life."""

    ADOPT = "adopt"
    RESUME = "resume"
    AT = "at"
    FIRST_ROW = "first row"


@dataclass(frozen=True)
class Decision:
    """Where the replay starts and why; `at` is set for `Start.AT` alone."""

    start: Start
    at: datetime | None
    reason: str


def decide_start(
    state: StreamState | None, batch_max: datetime | None, rule: HandOver, wanted_start: datetime | None, now: datetime
) -> Decision:
    """Where `live` starts the replay.

    A start given by hand wins. A replay that lives is left alone. A cursor beyond the hand-over is gone on from,
    so a second batch neither repeats nor skips what was streamed meanwhile. Else the batch hands over.
    """
    if wanted_start is not None:
        return Decision(Start.AT, wanted_start, f"started by hand at {format_instant(wanted_start)}")
    lives = state is not None and state.wanted and state.lease_until is not None and state.lease_until > now
    if state is not None and lives:
        return Decision(Start.ADOPT, None, f"epoch {state.epoch} publishes already ({state.holder})")
    hand_over = None if batch_max is None else hand_over_instant(batch_max, rule)
    if state is not None and state.cursor is not None:
        reached = from_us(state.cursor.event_us)
        if hand_over is None or reached >= hand_over:
            return Decision(Start.RESUME, None, f"goes on at the cursor, {format_instant(reached)}")
    if hand_over is not None and batch_max is not None:
        reason = f"the batch ends at {format_instant(batch_max)}; {rule} is {format_instant(hand_over)}"
        return Decision(Start.AT, hand_over, reason)
    return Decision(Start.FIRST_ROW, None, "no batch and no cursor: starts at the source's first row")


def replay_request(
    spec: StreamSpec, target: Target, start: datetime | str | None, speed: Speed | None
) -> ReplayRequest:
    """The replay of this stream, from an instant, the cursor, or the source's first row."""
    replay = replay_of(spec)
    source = replay.source
    if source.generator and target.production:
        raise RequestError(
            f"{spec.stream}: its source is the simulator {source.generator!r}, and REJEU_PRODUCTION marks this target: "
            "made-up rows are for targets that nobody relies on; name a table, a query or files"
        )
    return ReplayRequest.of(
        topic=target.topic(spec.live.topic),
        stream=spec.stream,
        project=target.project,
        table=source.table,
        query=source.query,
        file=target.place(source.files) if source.files else None,
        generator=source.generator,
        api=source.api and source.api.format(open_data=target.open_data),
        raw=source.raw and target.place(source.raw, partition="{partition}"),
        every_seconds=source.every.total_seconds(),
        event_time=spec.source_time,
        time_unit=source.time_unit,
        key=spec.source_key,
        ordering_key=replay.ordering_key,
        from_=start,
        speed=speed or target.speed or replay.speed,
        state=target.state,
    )


def replay_of(spec: StreamSpec) -> Replay:
    """What the spec says of the replay. Raises RequestError where somebody else publishes the stream."""
    if spec.replay is None:
        raise RequestError(f"{spec.stream} has no replay: somebody else publishes it; add `replay` to its spec")
    return spec.replay


def relaunch_request(state: StreamState) -> ReplayRequest:
    """The stream's last replay once more, from its cursor; one that never took the lease as it was asked for."""
    if state.announced:
        return ReplayRequest.from_argv(state.announced)
    return ReplayRequest.from_argv(state.request).model_copy(update={"from_": CURSOR})


def standby_request(request: ReplayRequest, *, twin: bool = True) -> ReplayRequest:
    """The replay that stands by for this one, under the name of a pair's other one, or of this one itself."""
    return request.model_copy(update={"from_": None, "standby": True, "twin": twin})


def stream_job_request(spec: StreamSpec, target: Target) -> StreamJobRequest:
    """The streaming job of this stream."""
    return StreamJobRequest.of(
        **_pipeline_fields(spec),
        bigtable=_bigtable(spec, target),
        subscription=target.subscription(spec.subscription),
        table=target.table(spec.live.table),
        dead_letters=target.table(spec.dead_letters),
        event_time=spec.event_time,
        workers=spec.live.workers,
    )


def batch_job_request(spec: StreamSpec, target: Target, files: str, partition: str, output: str) -> BatchJobRequest:
    """The job that prepares one partition's raw files for the load job."""
    return BatchJobRequest.of(
        **_pipeline_fields(spec),
        files=target.place(files, partition=partition),
        output=output,
        event_time=spec.event_time,
        partition=partition,
    )


def _bigtable(spec: StreamSpec, target: Target) -> str | None:
    """The instance that the stream's rows are served from; a batch's rows, whose ids differ, do not come there."""
    served = spec.pipeline.serves_bigtable and target.bigtable
    return f"projects/{target.project}/instances/{target.bigtable}" if served else None


def _pipeline_fields(spec: StreamSpec) -> dict[str, Any]:
    """What every job of the stream's pipeline is told of it."""
    window = spec.window
    fields: dict[str, Any] = {"stream": spec.stream, "pipeline": spec.live.pipeline}
    if window is None:
        return fields
    if window.session is not None:
        fields["session_seconds"] = window.session.total_seconds()
    if window.fixed is not None:
        fields["window_seconds"] = window.fixed.total_seconds()
    if window.lateness is not None:
        fields["lateness_seconds"] = window.lateness.total_seconds()
    return fields | {"early_seconds": window.early.total_seconds()}


def announce(store: StateStore, request: ReplayRequest) -> StreamState:
    """Say that this replay is about to start, and that the stream is wanted from now on.

    No watchdog takes the moment before it for silence; what it gave up on is to be tried again.
    """
    now = datetime.now(UTC)

    def starting(state: StreamState) -> StreamState:
        incidents = (*state.incidents[:-1], *(forgive(each) for each in state.incidents[-1:]))
        return state.model_copy(
            update={
                "wanted": True,
                "status": Status.STARTING,
                "status_at": now,
                "error": None,
                "announced": tuple(request.to_argv()),
                "incidents": incidents,
            }
        )

    return update_state(store, request.state_name, starting)


def rewind(store: StateStore, spec: StreamSpec) -> None:
    """Put the cursor of a stream that aggregates back to the start of the window that it stands in.

    A streaming job that was drained has written that window as far as it was; the next one shall count it as a whole.
    """
    window = spec.window
    if window is None or window.fixed is None:
        return
    length = window.fixed // MICROSECOND

    def back(state: StreamState) -> StreamState:
        if state.cursor is None:
            return state
        start = Position(state.cursor.event_us // length * length)
        return state.model_copy(update={"cursor": max(start, state.since or start)})

    update_state(store, spec.stream, back)


def want(store: StateStore, stream: str) -> None:
    """Say that the stream is wanted from now on, whoever publishes it."""
    update_state(store, stream, lambda state: state.model_copy(update={"wanted": True}))


def silence(store: StateStore, stream: str) -> StreamState:
    """Say that the stream is not wanted: its replay drains and ends by itself, and silence means nothing."""
    return update_state(store, stream, lambda state: state.model_copy(update={"wanted": False}))


def set_pace(store: StateStore, stream: str, **wish: Any) -> None:
    """Have the stream's replay, all its shards of it, change its `speed`, or be `paused` or not; it hears with its
    next checkpoint and keeps its place.

    Raises RequestError where the store knows no such stream.
    """
    names = stream_names(store)
    own = [name for name in names if re.fullmatch(re.escape(stream) + SHARD_SUFFIX, name)]
    if not own:
        known = f"it knows {', '.join(names)}" if names else "it is empty"
        raise RequestError(f"the state store has no stream {stream!r}: {known}; name one, and its store with --state")

    def change(state: StreamState) -> StreamState:
        if state.paused and state.timeline is not None:
            # Where nobody holds the stream now, its time stands still nevertheless.
            timeline = replace(state.timeline, wall_us=to_us(datetime.now(UTC)))
            return state.model_copy(update={"timeline": timeline, **wish})
        return state.model_copy(update=wish)

    for name in own:
        update_state(store, name, change)
