"""The DAG `rejeu.patrol`, one for all streams: pure wiring of what looks around where no trigger does."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Final

from airflow.sdk import DAG, CronTriggerTimetable, TaskGroup, TriggerRule, XComArg, chain

from rejeu.airflow.dags.kind import BEGINNING, NO_BACKFILL
from rejeu.airflow.operators.patrol import AcknowledgeAlerts, LookAround, RepairOrphan, orphan, watchdog_run
from rejeu.target import Target

PATROL: Final = "rejeu.patrol"
EVERY_MINUTE: Final = "* * * * *"
LOOK_LIMIT: Final = timedelta(seconds=50)
RUN_LIMIT: Final = timedelta(minutes=5)
SUMMARY: Final = "Looks at every stream once a minute, and runs the watchdogs that nobody else has run."
DETAILS: Final = """
    The second line: a watchdog runs within seconds when the triggerer sees the signal disappear. Where the triggerer
    is dead, or its event was lost, this DAG finds the same within a minute: rows that are due and not published, a
    missing part, an incident that is over and not recorded. It repairs nothing itself: it triggers the watchdogs. Where
    its task `repair` is skipped, all is well.

    A stream that is wanted goes on even where its spec is broken, renamed or gone, and with it its watchdog. The task
    `repair_orphan` then brings back what is gone, by the spec that the stream went live with, and a person is told once
    a day. `rejeu orphans` lists such streams, and stops and removes them on request.

    With `REJEU_ALERTS`, the subscription that `infra/` makes, it also hears what Cloud Monitoring says of a topic.

    Nobody needs to trigger it. **Pausing it leaves the triggerer alone with the watch.**
    """
REPAIR: Final = "Triggers the watchdogs that `look` names, one task each; skipped where it names none."
REPAIR_ORPHAN: Final = "Repairs the streams without a valid spec that `look` names, one task each; else skipped."


def build_patrol(folders: Iterable[Path], target: Target | None, looks: int = 1) -> DAG:
    """The DAG for the streams of these folders; it acknowledges alerts where the target has any."""
    with DAG(
        dag_id=PATROL,
        dag_display_name=f"{PATROL}: look at every stream",
        description=SUMMARY,
        doc_md=f"{SUMMARY}\n\n{dedent(DETAILS).strip()}",
        tags=["rejeu", "patrol"],
        # No retries: the next run comes within a minute, and looks again.
        default_args={"owner": "rejeu", "retries": 0},
        schedule=CronTriggerTimetable(EVERY_MINUTE, timezone="UTC"),
        start_date=BEGINNING,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=RUN_LIMIT,
        # While it is paused, nobody sees that the triggerer is dead.
        is_paused_upon_creation=False,
        allowed_run_types=NO_BACKFILL,
    ) as dag:
        for number in range(looks):
            with TaskGroup(f"part_{number + 1}") if looks > 1 else nullcontext():
                _look(tuple(folders), number, looks, alerts=bool(target and target.alerts and number == 0))
    return dag


def _look(folders: tuple[Path, ...], number: int, of: int, *, alerts: bool) -> None:
    """One look, at its part of the streams, and what comes of it."""
    # Here, for it brings Airflow's models along: 0.3 s that the workers of other DAGs must not spend.
    from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

    look = LookAround(task_id="look", folders=folders, number=number, of=of, execution_timeout=LOOK_LIMIT)
    repair = TriggerDagRunOperator.partial(
        task_id="repair",
        doc_md=REPAIR,
        logical_date=None,
        # A task that triggered and died does not trigger once more.
        trigger_run_id="patrol__{{ run_id }}",
        skip_when_already_exists=True,
        map_index_template="{{ task.trigger_dag_id }}",
    ).expand_kwargs(look.output.map(watchdog_run))
    RepairOrphan.partial(task_id="repair_orphan", doc_md=REPAIR_ORPHAN, map_index_template="{{ task.stream }}").expand(
        stream=look.output.map(orphan)
    )
    if alerts:
        acknowledge = AcknowledgeAlerts(
            task_id="acknowledge",
            ack_ids=XComArg(look, key="alerts"),
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
        )
        chain(repair, acknowledge)
