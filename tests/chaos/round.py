"""One round: rows, a broker's topic, replays, a fault, and the verdict on what arrived."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rejeu.jobs.request import ReplayRequest
from rejeu.spec.types import MAX
from rejeu.state.model import Status
from tests.chaos.collector import Collector
from tests.chaos.faults import FAULTS
from tests.chaos.plan import Plan
from tests.chaos.rows import STREAM, write_rows
from tests.chaos.scene import Scene, staged, wait_until
from tests.chaos.verdict import Verdict, judge


def play(plan: Plan, broker: str) -> Verdict:
    """Play the round on a broker's address. Raises TimeoutError where something that must happen does not."""
    with tempfile.TemporaryDirectory(prefix="rejeu-chaos-") as name:
        folder = Path(name)
        file = folder / f"rows{plan.suffix}"
        rows = write_rows(plan, file)
        with Collector(broker, ordered=plan.ordered) as collector:
            request = _request(plan, collector.topic, file, folder)
            with staged(plan, request, broker, folder) as scene:
                for _ in range(plan.fault.standbys):
                    scene.stand_by()
                scene.start()
                wait_until(lambda: bool(collector.got), "no message came")
                time.sleep(plan.moment)
                in_time = scene.state().status is not Status.FINISHED
                breaks = FAULTS[plan.fault](scene) if in_time else []
                scene.await_end()
                verdict = judge(plan, rows, breaks, collector.finish(len(rows)))
                wrong = _endings(scene, in_time=in_time) + scene.watcher.wrong
                return replace(verdict, broken=verdict.broken + wrong)


def _request(plan: Plan, topic: str, file: Path, folder: Path) -> ReplayRequest:
    return ReplayRequest.of(
        topic=topic,
        stream=STREAM,
        file=str(file),
        event_time="at",
        key=("symbol", "n"),
        ordering_key=("symbol",) if plan.ordered else (),
        speed=MAX if plan.rate is None else 1.0,
        state=f"sqlite:{folder / 'state' / 'state.db'}",
    )


def _endings(scene: Scene, *, in_time: bool) -> list[str]:
    """What is wrong with the way the replays ended."""
    wrong = [
        f"replay {at} ended with {each.code}, not {each.expected}: {each.said.strip().splitlines()[-1:]}"
        for at, each in enumerate(scene.actors)
        if each.code != each.expected
    ]
    if not in_time:
        wrong.append("the fault came after the last row")
    state = scene.state()
    if (state.status, state.holder) != (Status.FINISHED, None):
        wrong.append(f"the stream is left {state.status}, held by {state.holder}")
    return wrong
