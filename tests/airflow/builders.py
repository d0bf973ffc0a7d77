"""What the tests of the Airflow side build: a run's context, a carried-out task, a BigQuery client that remembers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from airflow.sdk import Asset, BaseOperator
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType, TaskDeferred
from airflow.sdk.execution_time.comms import AssetEventDagRunReferenceResult, ErrorResponse
from airflow.sdk.execution_time.context import OutletEventAccessors, TriggeringAssetEventsAccessor
from airflow.triggers.base import BaseTrigger
from google.cloud import bigquery
from pydantic import BaseModel

from rejeu.state.model import Status, StreamState
from rejeu.testing import MemoryStore
from rejeu.timeline import format_instant, parse_instant

STREAM, OTHER = "crypto_rates", "iot_sensors"
REPLAY_JOB, STREAM_JOB = "rejeu-replay-crypto-rates", "rejeu-stream-crypto-rates"
DAY = parse_instant("2021-04-30T00:00:00Z")
LAST_ROW = parse_instant("2021-04-30T23:59:58.5Z")


def ago(seconds: float) -> datetime:
    """An instant of the wall clock; the future where the number is negative."""
    return datetime.now(UTC) - timedelta(seconds=seconds)


def event_of(asset: Asset, extra: Mapping[str, Any]) -> AssetEventDagRunReferenceResult:
    """An asset event as a task finds it in its context."""
    return AssetEventDagRunReferenceResult.model_validate(
        {
            "asset": {"name": asset.name, "uri": asset.uri, "extra": {}},
            "extra": extra,
            "source_task_id": None,
            "source_dag_id": None,
            "source_run_id": None,
            "source_map_index": None,
            "source_aliases": [],
            "timestamp": ago(0),
        }
    )


def a_run(
    *events: AssetEventDagRunReferenceResult,
    params: Mapping[str, Any] | None = None,
    day: datetime | None = DAY,
    attempt: int = 1,
    run_id: str = "run-1",
) -> Any:
    """The context of a run, with Airflow's own accessors of asset events."""
    return {
        "params": dict(params or {}),
        "run_id": run_id,
        "data_interval_start": day,
        "ti": SimpleNamespace(try_number=attempt, get_dag=lambda dag_id: SimpleNamespace(is_paused=False)),
        "triggering_asset_events": TriggeringAssetEventsAccessor.build(events),
        "outlet_events": OutletEventAccessors(),
    }


def revive(trigger: BaseTrigger) -> Any:
    """The trigger as the triggerer makes it, out of what was written down of it."""
    path, arguments = trigger.serialize()
    return import_string(path)(**json.loads(json.dumps(arguments)))


def fired(trigger: BaseTrigger) -> Any:
    """The payload of the trigger's first event, as it comes back out of Airflow's database."""

    async def first() -> Any:
        return (await anext(trigger.run())).payload  # type: ignore[call-overload]

    return json.loads(json.dumps(asyncio.run(asyncio.wait_for(first(), 20))))


def carry_out(task: BaseOperator, context: Any, meanwhile: Callable[[], object] = lambda: None) -> Any:
    """Run a task as worker and triggerer do together; `meanwhile` is what happens while it is deferred.

    It is resumed in another process, which has made the task anew.
    """
    anew = copy(task)
    try:
        return task.execute(context)
    except TaskDeferred as deferred:
        meanwhile()
        event = fired(revive(deferred.trigger))
        return anew.resume_execution(deferred.method_name, {**(deferred.kwargs or {}), "event": event}, context)


def remember(store: MemoryStore, **fields: Any) -> StreamState:
    """Let the stream's state be what a test wants it."""
    found = store.load(STREAM)
    state = StreamState(stream=STREAM, **fields)
    store.save(STREAM, state.model_dump(mode="json"), found.version if found else None)
    return state


def alive(**fields: Any) -> dict[str, Any]:
    """The state of a replay that publishes on time."""
    running = {"epoch": 4, "holder": "host:7", "lease_until": ago(-60), "heartbeat": ago(0), "status": Status.RUNNING}
    return {**running, "last_published": ago(0.1), "next_due": ago(-60), **fields}


def dead(**fields: Any) -> dict[str, Any]:
    """The state that a killed replay leaves, with rows due."""
    gone = {"epoch": 3, "holder": "host:6", "lease_until": ago(20), "heartbeat": ago(21), "status": Status.RUNNING}
    return {**gone, "last_published": ago(21), "next_due": ago(20.5), **fields}


class FakeBigQuery:
    """Answers every query with the same rows, and remembers what was asked."""

    def __init__(self, *rows: Mapping[str, Any], jobs: Sequence[bigquery.LoadJob] = ()) -> None:
        self.rows = list(rows)
        self.jobs = list(jobs)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.listed: list[dict[str, Any]] = []

    def query(self, text: str, job_config: bigquery.QueryJobConfig | None = None, **_: Any) -> SimpleNamespace:
        parameters = job_config.query_parameters if job_config else []
        self.asked.append((text, {each.name: each.value for each in parameters}))
        return SimpleNamespace(result=lambda **_: iter(self.rows))

    def list_jobs(self, **question: Any) -> list[bigquery.LoadJob]:
        self.listed.append(question)
        return self.jobs


def measured(row_count: int, last: datetime | None = LAST_ROW) -> dict[str, Any]:
    """What BigQuery says of a partition."""
    return {"row_count": row_count, "max_timestamp": last, "table_max_timestamp": last}


def text(instant: datetime) -> str:
    """The instant as events and results say it."""
    return format_instant(instant)


class FakeTask:
    """What a task asks Airflow: which DAGs are there, which are paused, and which have runs under way."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.paused: set[str] = set()
        self.at_work: dict[str, int] = {}
        self.pushed: dict[str, Any] = {}

    def get_dag(self, dag_id: str) -> Any:
        class Found(BaseModel):
            is_paused: bool

        if dag_id in self.missing:
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 404}))
        return Found(is_paused=dag_id in self.paused)

    def get_dr_count(self, dag_id: str, states: Sequence[str]) -> int:
        assert set(states) == {"queued", "running"}
        return self.at_work.get(dag_id, 0)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))
