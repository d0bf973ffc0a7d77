"""`<stream>.batch`: loads a day's raw files into the batch table, and says so to the live DAG."""

from __future__ import annotations

from typing import Any, Final

from airflow.providers.standard.operators.python import BranchPythonOperator
from airflow.sdk import CronDataIntervalTimetable, Param, TriggerRule, chain

from rejeu.airflow.dags.kind import DagKind, asset_of
from rejeu.airflow.operators.batch import AwaitLoadJob, MeasureBatch, PreparePartition
from rejeu.airflow.operators.live import EnsureStream
from rejeu.airflow.operators.load import LoadFiles, PlaceRows
from rejeu.spec.model import Batch, StreamSpec
from rejeu.target import Target


def _batch_of(spec: StreamSpec) -> Batch:
    assert spec.batch is not None, "only a stream with a batch has a batch DAG"
    return spec.batch


def _schedule(spec: StreamSpec, target: Target | None) -> CronDataIntervalTimetable:
    return CronDataIntervalTimetable(_batch_of(spec).schedule, timezone="UTC")


def _tasks(spec: StreamSpec) -> None:
    ensure = EnsureStream(task_id="ensure", spec=spec, asks_source=False)
    choose = BranchPythonOperator(task_id="choose_loader", python_callable=_loader, doc_md=_loader.__doc__)
    prepare = PreparePartition(task_id="prepare", spec=spec)
    loads = [_load(kind, spec) for kind in ("rows", "dead")]
    awaited = AwaitLoadJob(task_id="await_load_job", spec=spec)
    measure = MeasureBatch(
        task_id="measure",
        spec=spec,
        asset=asset_of(spec, "batch"),
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
    )
    chain(ensure, choose, [prepare, awaited])
    for load_and_place in loads:
        chain(prepare, *load_and_place, measure)
    chain(awaited, measure)


def _form(spec: StreamSpec) -> dict[str, Param]:
    return {
        "partition": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Day",
            description="The day to load. Empty: the day that the run's data interval begins with.",
        ),
        "loaded_by": Param(
            _batch_of(spec).loaded_by,
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


def _load(kind: str, spec: StreamSpec) -> tuple[LoadFiles, PlaceRows]:
    """A load job into a staging table, then the statement that puts its rows in place; `prepare` names both."""
    load = LoadFiles(task_id=f"load_{kind}", spec=spec, kind=kind)
    return load, PlaceRows(task_id=f"place_{kind}", spec=spec, kind=kind)


def _page(spec: StreamSpec) -> str:
    batch = _batch_of(spec)
    return f"""
        The raw files `{batch.files}` go through the pipeline `{spec.live.pipeline}`, the same that the stream
        uses; then a load job brings them into their day of `{batch.table}`. A day that is loaded twice is as if
        loaded once.

        - **On schedule**: `{batch.schedule}` (UTC), each run for the day before.
        - **One day, by hand**: trigger with `partition`.
        - **A range of days**:
          `airflow backfill create --dag-id {spec.stream}.batch --from-date 2021-04-01 --to-date 2021-05-01` loads April
        - **Loaded elsewhere**: trigger with `loaded_by: elsewhere`; the run waits for a load job outside Airflow.

        A run fails where the day is empty after its load. Rows that the pipeline refuses are in `{spec.dead_letters}`.
        """


BATCH: Final = DagKind(
    name="batch",
    purpose="load a day's files",
    summary="Loads one day's raw files into the batch table; its end is the hand-over to the stream.",
    page=_page,
    has=lambda spec: spec.batch is not None,
    begins=True,
    schedule=_schedule,
    form=_form,
    tasks=_tasks,
    arguments={"max_active_runs": 4},
)
