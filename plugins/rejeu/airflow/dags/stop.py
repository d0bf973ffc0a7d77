"""`<stream>.stop`: ends the replay and the streaming job, until somebody runs the live DAG again."""

from __future__ import annotations

from typing import Final

from airflow.sdk import chain

from rejeu.airflow.dags.kind import DagKind
from rejeu.airflow.operators.live import DrainStreamJob, StopReplay
from rejeu.spec.model import StreamSpec


def _tasks(spec: StreamSpec) -> None:
    chain(StopReplay(task_id="stop_replay", spec=spec), DrainStreamJob(task_id="drain_stream", spec=spec))


def _page(spec: StreamSpec) -> str:
    return f"""
        Nothing is lost: the cursor is saved, and the next run of `{spec.stream}.live` goes on from it. Messages that
        the streaming job has not read wait in its subscription for up to 7 days.
        """


STOP: Final = DagKind(
    name="stop",
    purpose="stop the stream",
    summary="Stops the replay and the streaming job, and tells the watchdog to expect silence until the next live run.",
    page=_page,
    tasks=_tasks,
    # A run by hand of a paused DAG would wait, and the stream go on.
    arguments={"is_paused_upon_creation": False},
)
