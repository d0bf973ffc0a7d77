"""From a spec to its DAGs: pure wiring. What a task does is in `operators/`, what a person reads is in `docs.py`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import BranchPythonOperator
from airflow.sdk import (
    DAG,
    Asset,
    AssetWatcher,
    BaseOperator,
    CronDataIntervalTimetable,
    CronTriggerTimetable,
    Param,
    TriggerRule,
    chain,
)

from rejeu.airflow import docs
from rejeu.airflow.operators.base import GOOGLE_CONNECTION
from rejeu.airflow.operators.batch import AwaitLoadJob, MeasureBatch, PreparePartition
from rejeu.airflow.operators.live import (
    AwaitSignal,
    BeginWatch,
    DrainStreamJob,
    EnsureStream,
    HandOverInstant,
    StartReplay,
    StartStreamJob,
    StopReplay,
)
from rejeu.airflow.operators.reconcile import Reconcile
from rejeu.airflow.operators.watchdog import RecordIncident, RelaunchReplay, Restore
from rejeu.airflow.triggers import SilenceTrigger
from rejeu.errors import SpecError
from rejeu.spec.model import Batch, Replay, StreamSpec
from rejeu.spec.types import MAX
from rejeu.target import Target
from rejeu.timeline import HandOver

BEGINNING = datetime(2015, 1, 1, tzinfo=UTC)
"""No backfill reaches further back."""
RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=10), "retry_exponential_backoff": True}
SOON = {"retries": 2, "retry_delay": timedelta(seconds=1)}
"""A deferred task must have retries: Airflow 3.3 may take one that is resumed very quickly for one that failed."""
INSTANT = r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d([.]\d{1,6})?)?(Z|[+-]\d\d:\d\d)$"
"""Airflow checks `format: date-time` only where rfc3339-validator is installed, which it does not ask for."""
SPEED = r"^(max|(?=.*[1-9])\d+([.]\d+)?)$"


def parts_of(spec: StreamSpec) -> list[str]:
    """The DAGs that this stream has, by the last word of their ids."""
    return [
        *(["batch"] if spec.batch else []),
        "live",
        "watchdog",
        # Rows of windows are compared with nothing: which messages they count, they do not say.
        *(["reconcile"] if spec.replay and spec.pipeline.windows is None else []),
        "stop",
    ]


def build_dag(spec: StreamSpec, part: str, target: Target) -> DAG:
    """One DAG of a stream; a worker builds no other than its own, for each costs it time before its task begins."""
    match part:
        case "batch":
            return _batch(spec, target)
        case "live":
            return _live(spec)
        case "watchdog":
            return _watchdog(spec, target)
        case "reconcile":
            return _reconcile(spec)
        case "stop":
            return _stop(spec)
    raise ValueError(f"{spec.stream} has no DAG {part!r}: it has {', '.join(parts_of(spec))}")


def build_invalid(name: str, error: SpecError) -> DAG:
    """A DAG that says what is wrong with a spec; it breaks nobody else's."""
    with DAG(
        dag_id=f"{name}.invalid",
        schedule=None,
        catchup=False,
        tags=["rejeu", "invalid"],
        doc_md=docs.invalid(error),
        description=str(error),
    ) as dag:
        EmptyOperator(task_id="mend_the_spec", doc_md=docs.invalid(error))
    return dag


def _dag(spec: StreamSpec, part: str, **arguments: Any) -> DAG:
    return DAG(
        dag_id=f"{spec.stream}.{part}",
        description=docs.summary(spec, part),
        doc_md=docs.page(spec, part),
        tags=["rejeu", spec.stream, part, *spec.tags],
        default_args={"owner": spec.owner, **RETRIES},
        catchup=False,
        **{"start_date": BEGINNING} | arguments,
    )


def _batch(spec: StreamSpec, target: Target) -> DAG:
    batch = spec.batch
    assert batch is not None, "parts_of names a batch only where the spec has one"
    timetable = CronDataIntervalTimetable(batch.schedule, timezone="UTC")
    # Native: a schema that is rendered must stay a list.
    native = {"render_template_as_native_obj": True}
    with _dag(spec, "batch", schedule=timetable, params=_batch_params(batch), max_active_runs=4, **native) as dag:
        ensure = EnsureStream(task_id="ensure", spec=spec)
        choose = BranchPythonOperator(task_id="choose_loader", python_callable=_loader, doc_md=_loader.__doc__)
        prepare = PreparePartition(task_id="prepare", spec=spec)
        loads = [_load("rows", target), _load("dead", target)]
        awaited = AwaitLoadJob(task_id="await_load_job", spec=spec)
        measure = MeasureBatch(
            task_id="measure",
            spec=spec,
            asset=_asset(spec, "batch"),
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
        )
        chain(ensure, choose, [prepare, awaited])
        for load_and_place in loads:
            chain(prepare, *load_and_place, measure)
        chain(awaited, measure)
    return dag


def _batch_params(batch: Batch) -> dict[str, Param]:
    return {
        "partition": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Day",
            description="The day to load. Empty: the day that the run's data interval begins with.",
        ),
        "loaded_by": Param(
            batch.loaded_by,
            type="string",
            enum=["rejeu", "elsewhere"],
            values_display={"rejeu": "this run loads it", "elsewhere": "wait for a load job outside Airflow"},
            title="Loaded by",
            description="Who fills the batch table.",
        ),
    }


def _loader(**context: Any) -> str:
    """Takes the branch that the form, or the spec behind it, asks for: load here, or wait for somebody else's load."""
    return "await_load_job" if context["params"]["loaded_by"] == "elsewhere" else "prepare"


def _load(kind: str, target: Target) -> Iterable[BaseOperator]:
    """A load job into a staging table, then the statement that puts its rows in place; `prepare` names both."""
    # Here, for it brings Google's clients along: 3 s that the watchdog's workers must not spend.
    from airflow.providers.google.cloud.operators.bigquery import BigQueryInsertJobOperator

    planned = f"ti.xcom_pull(task_ids='prepare')['{kind}']"
    common: dict[str, Any] = {
        "gcp_conn_id": GOOGLE_CONNECTION,
        "project_id": target.project,
        "location": target.location,
        "deferrable": True,
        "poll_interval": 1.0,
    }
    load = {
        "sourceUris": [f"{{{{ {planned}['files'] }}}}"],
        "sourceFormat": "NEWLINE_DELIMITED_JSON",
        "destinationTable": f"{{{{ {planned}['staging'] }}}}",
        "schema": {"fields": f"{{{{ {planned}['schema'] }}}}"},
        "createDisposition": "CREATE_IF_NEEDED",
        "writeDisposition": "WRITE_TRUNCATE",
    }
    place = {"query": f"{{{{ {planned}['merge'] }}}}", "useLegacySql": False}
    what = {"rows": "rows", "dead": "dead letters"}[kind]
    return (
        BigQueryInsertJobOperator(
            task_id=f"load_{kind}",
            configuration={"load": load},
            doc_md=f"Loads the prepared {what} into a staging table of the day, which it replaces.",
            **common,
        ),
        BigQueryInsertJobOperator(
            task_id=f"place_{kind}",
            configuration={"query": place},
            doc_md=f"Puts the staged {what} in the place of the day's, in one atomic statement.",
            **common,
        ),
    )


def _live(spec: StreamSpec) -> DAG:
    if spec.replay is None:
        with _dag(spec, "live", schedule=None, max_active_runs=1) as dag:
            ensure = EnsureStream(task_id="ensure", spec=spec)
            stream = StartStreamJob(task_id="start_stream", spec=spec)
            chain(ensure, stream, BeginWatch(task_id="begin_watch", spec=spec))
        return dag
    batch_asset = _asset(spec, "batch") if spec.batch else None
    schedule = [batch_asset] if batch_asset else None
    with _dag(spec, "live", schedule=schedule, params=_live_params(spec, spec.replay), max_active_runs=1) as dag:
        ensure = EnsureStream(task_id="ensure", spec=spec)
        hand_over = HandOverInstant(task_id="hand_over", spec=spec, batch_asset=batch_asset)
        stream = StartStreamJob(task_id="start_stream", spec=spec)
        replay = StartReplay(task_id="start_replay", spec=spec, decision=hand_over.output)
        chain(ensure, [hand_over, stream], replay, AwaitSignal(task_id="await_signal", spec=spec, **SOON))
    return dag


def _live_params(spec: StreamSpec, replay: Replay) -> dict[str, Param]:
    windowed = spec.pipeline.windows is not None
    rules = [rule for rule in HandOver if windowed == (rule is HandOver.LAST_WINDOW)]
    return {
        "from": Param(
            None,
            type=["null", "string"],
            format="date-time",
            pattern=INSTANT,
            title="Start at",
            description="Begin anew at this event time, whatever runs and wherever the cursor is. Empty: go on from "
            "the cursor, or take over from the batch.",
        ),
        "hand_over": Param(
            spec.hand_over.value,
            type="string",
            enum=[rule.value for rule in rules],
            values_display={rule.value: rule.value.replace("_", " ") for rule in rules},
            title="Hand-over",
            description="Where the stream takes over from the batch: after its last row, or at the minute after that.",
        ),
        "speed": Param(
            None,
            type=["null", "string", "number"],
            pattern=SPEED,
            exclusiveMinimum=0,
            examples=["1", "60", MAX],
            title="Speed",
            description=f"Event seconds per second, above 0, or {MAX} for no waiting. Empty: the target's or else the "
            f"spec's, which is {docs.speed(replay)}.",
        ),
    }


def _watchdog(spec: StreamSpec, target: Target) -> DAG:
    asset = _signal_asset(spec, target)
    with _dag(spec, "watchdog", schedule=[asset], max_active_runs=1) as dag:
        # No retries: the watcher repeats its event until the signal is back, and each run looks again.
        relaunch = RelaunchReplay(task_id="relaunch", spec=spec, signal_asset=asset, retries=0)
        signal = AwaitSignal(task_id="await_signal", spec=spec, **SOON)
        # Both also after a run that had nothing to relaunch: an incident may have been left open, or a part may lack.
        record = RecordIncident(task_id="record_incident", spec=spec, trigger_rule=TriggerRule.NONE_FAILED)
        restore = Restore(task_id="restore", spec=spec, trigger_rule=TriggerRule.ALL_DONE)
        chain(relaunch, signal, [record, restore])
    return dag


def _reconcile(spec: StreamSpec) -> DAG:
    cron = spec.reconcile.schedule
    schedule = CronTriggerTimetable(cron, timezone="UTC") if cron else None
    # Without a start date it does not begin with a run for the time before it was made.
    arguments: dict[str, Any] = {"schedule": schedule, "start_date": None, "params": _reconcile_params()}
    with _dag(spec, "reconcile", max_active_runs=1, **arguments) as dag:
        Reconcile(task_id="reconcile", spec=spec)
    return dag


def _reconcile_params() -> dict[str, Param]:
    empty = {"from": "where the last comparison ended", "until": "how far the stream has come"}
    return {
        name: Param(
            None,
            type=["null", "string"],
            format="date-time",
            pattern=INSTANT,
            title=title,
            description=f"Event time, {end}. Empty: {empty[name]}.",
        )
        for name, title, end in (("from", "From", "inclusive"), ("until", "Until", "exclusive"))
    }


def _stop(spec: StreamSpec) -> DAG:
    with _dag(spec, "stop", schedule=None, max_active_runs=1) as dag:
        chain(StopReplay(task_id="stop_replay", spec=spec), DrainStreamJob(task_id="drain_stream", spec=spec))
    return dag


def _signal_asset(spec: StreamSpec, target: Target) -> Asset:
    watcher = AssetWatcher(name=f"{spec.stream}.silence", trigger=SilenceTrigger.watching(spec, target))
    return _asset(spec, "signal", watchers=[watcher])


def _asset(spec: StreamSpec, name: str, **arguments: Any) -> Asset:
    # x-: any other scheme makes Airflow ask every provider for it, which brings Google's clients along: 1 s a task.
    return Asset(name=f"{spec.stream}.{name}", uri=f"x-rejeu://{spec.stream}/{name}", **arguments)
