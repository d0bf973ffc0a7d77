"""`<stream>.reconcile`: compares what was streamed with its source, and publishes again what is missing."""

from __future__ import annotations

from typing import Final

from airflow.sdk import CronTriggerTimetable, Param

from rejeu.airflow.dags.kind import INSTANT, NO_BACKFILL, DagKind
from rejeu.airflow.operators.reconcile import Reconcile
from rejeu.spec.model import StreamSpec
from rejeu.target import Target


def _has(spec: StreamSpec) -> bool:
    # Rows of windows are compared with nothing: which messages they count, they do not say.
    return spec.replay is not None and spec.pipeline.windows is None


def _schedule(spec: StreamSpec, target: Target | None) -> CronTriggerTimetable | None:
    cron = spec.reconcile.schedule
    return CronTriggerTimetable(cron, timezone="UTC") if cron else None


def _tasks(spec: StreamSpec) -> None:
    Reconcile(task_id="reconcile", spec=spec)


def _form(spec: StreamSpec) -> dict[str, Param]:
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


def _page(spec: StreamSpec) -> str:
    cron = spec.reconcile.schedule
    when = f"Runs by `{cron}` (UTC)" if cron else "Runs by hand"
    return f"""
        {when}, for what was streamed since the last comparison, or for the range that the form gives. It reads the
        source as the replay does, works out by row id what must be in `{spec.live.table}` or `{spec.dead_letters}`,
        and counts by minute and key what is there, missing or double. What is still missing after
        {spec.reconcile.settle.total_seconds():g} s is published again, those messages and no others.

        A row of the table of reconciliations says what was found; the run fails where rows are missing at its end. Rows
        that are there twice are harmless: the view `{spec.view}` shows each once.
        """


RECONCILE: Final = DagKind(
    name="reconcile",
    purpose="find and fill gaps",
    summary="Compares the streaming table with its source, and publishes again what is missing.",
    page=_page,
    has=_has,
    schedule=_schedule,
    form=_form,
    tasks=_tasks,
    # Without a start date it does not begin with a run for the time before it was made.
    # A backfill would compare the same range once for each of its days.
    arguments={"start_date": None, "allowed_run_types": NO_BACKFILL},
)
