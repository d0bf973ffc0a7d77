"""`<stream>.live`: starts the streaming job and the replay, or, where somebody else publishes, the watch."""

from __future__ import annotations

from typing import Final

from airflow.sdk import Asset, Param, chain

from rejeu.airflow.dags.kind import INSTANT, SOON, DagKind, asset_of
from rejeu.airflow.docs import speed
from rejeu.airflow.operators.live import (
    AwaitSignal,
    BeginWatch,
    EnsureStream,
    HandOverInstant,
    StartReplay,
    StartStreamJob,
)
from rejeu.spec.model import StreamSpec
from rejeu.spec.types import FASTEST, MAX, SLOWEST
from rejeu.target import Target
from rejeu.timeline import HandOver

SPEED: Final = r"^(max|(?=.*[1-9])\d{1,7}([.]\d{1,6})?)$"


def _schedule(spec: StreamSpec, target: Target | None) -> list[Asset] | None:
    return [asset_of(spec, "batch")] if spec.batch and spec.replay else None


def _tasks(spec: StreamSpec) -> None:
    ensure = EnsureStream(task_id="ensure", spec=spec)
    if spec.replay is None:
        stream = StartStreamJob(task_id="start_stream", spec=spec)
        chain(ensure, stream, BeginWatch(task_id="begin_watch", spec=spec))
        return
    hand_over = HandOverInstant(task_id="hand_over", spec=spec)
    stream = StartStreamJob(task_id="start_stream", spec=spec)
    replay = StartReplay(task_id="start_replay", spec=spec, decision=hand_over.output)
    chain(ensure, [hand_over, stream], replay, AwaitSignal(task_id="await_signal", spec=spec, **SOON))


def _form(spec: StreamSpec) -> dict[str, Param]:
    if spec.replay is None:
        return {}
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
            minimum=SLOWEST,
            maximum=FASTEST,
            examples=["1", "60", MAX],
            title="Speed",
            description=f"Event seconds per second, or {MAX} for no waiting. Empty: the target's or else the "
            f"spec's, which is {speed(spec.replay)}.",
        ),
    }


def _page(spec: StreamSpec) -> str:
    if spec.replay is None:
        return f"""
        Runs by hand only. It makes what is missing of topic `{spec.live.topic}`, its subscription,
        `{spec.dead_letters}` and the view `{spec.view}`; starts the streaming job, or adopts the one that runs; and
        has the topic watched from now on. Somebody else publishes to it.
        """
    start = "the start of the batch's last window, which the stream counts anew"
    if spec.pipeline.windows is None:
        start = "the row, or the minute, after the batch's last row"
    begins = (
        f"Each batch that ends starts a run (`{spec.stream}.batch`), but for those of a backfill."
        if spec.batch
        else "Runs by hand only."
    )
    return f"""
        {begins} It makes what is missing of topic `{spec.live.topic}`, its subscription, `{spec.live.table}`,
        `{spec.dead_letters}` and the view `{spec.view}`; starts the streaming job, or adopts the one that runs; and
        starts the replay. The run ends when rows flow: the replay goes on without it.

        Where the replay starts, by the first rule that fits; the result of the task `hand_over` says which it was:

        1. A `from` given in the form wins: a replay that runs is ended and begins anew there, at the `speed` given.
        2. A replay that lives is left alone, and so is its speed.
        3. A cursor beyond the batch is gone on from: nothing is skipped, nothing comes twice.
        4. The batch hands over: the stream starts at {start}.
        5. Without batch and cursor, at the source's first row.
        """


LIVE: Final = DagKind(
    name="live",
    purpose="start the stream",
    summary="Starts the streaming job and the replay, at the first row after the batch.",
    page=_page,
    schedule=_schedule,
    form=_form,
    tasks=_tasks,
)
