"""The calm: minutes with gaps, a slow broker and a killed triggerer, in which nothing is to be relaunched."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.chaos.stack.plan import Disturbance, Victim
from tests.chaos.stack.result import Calm
from tests.chaos.stack.scene import Say, Scene
from tests.chaos.stack.truth import Truth
from tests.chaos.stack.verdict import Span


def rest(scene: Scene, truth: Truth, disturbances: Sequence[Disturbance], seconds: float, say: Say) -> Calm:
    """Wait for so long, disturb as planned, and count what the watchdogs did. Raises TimeoutError as the scene does."""
    scene.await_well()
    begin = time.time()
    epochs, incidents = _epochs(scene), len(truth.incidents())
    runs = {run for run, _ in _watchdog_runs(scene)}
    pauses = []
    for each in disturbances:
        time.sleep(max(0.0, begin + each.at - time.time()))
        if each.seconds is None:
            say("calm: killed the triggerer")
            scene.kill(scene.pid(Victim.TRIGGERER))
            continue
        say(f"calm: the broker pauses for {each.seconds:.1f} s")
        paused = time.time()
        with scene.broker_paused():
            time.sleep(each.seconds)
        pauses.append(Span(paused, time.time()))
    time.sleep(max(0.0, begin + seconds - time.time()))
    scene.await_well()
    looked = [did for run, did in _watchdog_runs(scene) if run not in runs]
    after = _epochs(scene)
    return Calm(
        span=Span(begin, time.time()),
        triggerer_kills=sum(each.seconds is None for each in disturbances),
        broker_pauses=pauses,
        relaunches=sum(after[name] - epochs[name] for name in epochs),
        incidents=len(truth.incidents()) - incidents,
        watchdog_runs=len(looked),
        skipped=sum(not did for did in looked),
        rows={name: truth.rows(stage) for name, stage in scene.stages.items()},
    )


def broken_calm(calm: Calm) -> list[str]:
    """What was not as calm as promised, in words."""
    wrong = {
        f"{calm.relaunches} relaunches in the calm": calm.relaunches,
        f"{calm.incidents} incidents in the calm": calm.incidents,
        f"{calm.watchdog_runs - calm.skipped} watchdog runs relaunched in the calm": calm.watchdog_runs - calm.skipped,
        **{f"{name}: {rows.wrong} rows wrong after the calm": rows.wrong for name, rows in calm.rows.items()},
    }
    return [words for words, is_so in wrong.items() if is_so]


def _epochs(scene: Scene) -> dict[str, int]:
    return {name: stage.state().epoch for name, stage in scene.stages.items()}


def _watchdog_runs(scene: Scene) -> list[tuple[str, bool]]:
    """Every run so far, and whether it relaunched."""
    return [
        (f"{name}/{run['dag_run_id']}", _relaunched(scene, f"{name}.watchdog", run["dag_run_id"]))
        for name in scene.stages
        for run in scene.airflow.runs(f"{name}.watchdog")
    ]


def _relaunched(scene: Scene, dag_id: str, run_id: str) -> bool:
    tasks = scene.airflow.tasks(dag_id, run_id)
    return any(task["task_id"] == "relaunch" and task["state"] != "skipped" for task in tasks)
