"""The requests that start a stream's jobs, made from its spec and the target."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rejeu.errors import RequestError
from rejeu.jobs.request import BatchJobRequest, ReplayRequest, StreamJobRequest
from rejeu.spec.model import Replay, Source, StreamSpec
from rejeu.spec.secrets import Headers, references
from rejeu.spec.types import Speed
from rejeu.target import LAUNCHERS, Target


def replay_request(
    spec: StreamSpec, target: Target, start: datetime | str | None, speed: Speed | None
) -> ReplayRequest:
    """The replay of this stream, from an instant, the cursor, or the source's first row (None)."""
    replay = replay_of(spec)
    source = replay.source
    if source.generator and target.production:
        raise RequestError(
            f"{spec.stream}: its source is the simulator {source.generator!r}, and REJEU_PRODUCTION marks this target: "
            "made-up rows are for targets that nobody relies on; name a table, a query or files"
        )
    _refuse_unseen(spec, source, target)
    return ReplayRequest.of(
        topic=target.topic(spec.live.topic),
        stream=spec.stream,
        project=target.project,
        table=source.table,
        query=source.query,
        file=target.expand(source.files) if source.files else None,
        generator=source.generator,
        api=source.api and source.api.replace("{open_data}", target.open_data),
        headers=Headers(source.headers),
        reader=source.reader,
        options=source.options,
        raw=source.raw and target.expand(source.raw, partition="{partition}"),
        every_seconds=source.every.total_seconds(),
        event_time=spec.source_time,
        time_unit=source.time_unit,
        key=spec.source_key,
        ordering_key=replay.ordering_key,
        from_=start,
        speed=speed or target.speed or replay.speed,
        state=target.state,
    )


def _refuse_unseen(spec: StreamSpec, source: Source, target: Target) -> None:
    """Raises RequestError for what the replay cannot see where it runs: files and variables of this machine."""
    kind = LAUNCHERS[target.launcher]
    if not kind.elsewhere:
        return
    elsewhere = f"REJEU_LAUNCHER {target.launcher} starts the replay where"
    for field in ("files", "raw"):
        path = getattr(source, field)
        if path and not path.startswith("gs://"):
            rule = f"{spec.stream}: replay.source.{field} is {path!r}: {elsewhere} it cannot see this machine's files"
            raise RequestError(f"{rule}; write gs://BUCKET/PATH")
    for each in references([source.api, *source.headers.values(), source.options]):
        if each.kind == "env" and each.name not in kind.hands_on:
            rule = f"{spec.stream}: replay.source has {each}: {elsewhere} no variable of this environment is"
            raise RequestError(f"{rule}; keep it in Secret Manager, and write {{secret:NAME}}")


def replay_of(spec: StreamSpec) -> Replay:
    """The spec's section `replay`. Raises RequestError where somebody else publishes the stream."""
    if spec.replay is None:
        raise RequestError(f"{spec.stream} has no replay: somebody else publishes it; add `replay` to its spec")
    return spec.replay


def standby_request(request: ReplayRequest, *, twin: bool = True) -> ReplayRequest:
    """The standby of this replay; as a `twin` its job has a name of its own, else the replay's name."""
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
    found = target.expand(files, partition=partition)
    if LAUNCHERS[target.launcher].runs_jobs and not found.startswith("gs://"):
        rule = f"{spec.stream}: batch.files is {found!r}: REJEU_LAUNCHER {target.launcher} prepares them elsewhere"
        raise RequestError(f"{rule}, where it cannot see this machine's files; write gs://BUCKET/PATH")
    return BatchJobRequest.of(
        **_pipeline_fields(spec),
        files=found,
        output=output,
        event_time=spec.event_time,
        partition=partition,
    )


def _bigtable(spec: StreamSpec, target: Target) -> str | None:
    """The instance that serves the stream's rows; a batch's rows have other ids and do not go there."""
    served = spec.pipeline.serves_bigtable and target.bigtable
    return f"projects/{target.project}/instances/{target.bigtable}" if served else None


def _pipeline_fields(spec: StreamSpec) -> dict[str, Any]:
    """The fields that every job of the stream's pipeline has."""
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
