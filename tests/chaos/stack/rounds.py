"""One round on the scene: kill, wait until all is well and written down, count the rows, and say what came of it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import httpx
from google.api_core.exceptions import GoogleAPIError

from rejeu.errors import RejeuError
from rejeu.local.stack.airflow_api import ENDED
from tests.chaos.stack.plan import Round, Victim
from tests.chaos.stack.result import REPLAYS, Kill, Played
from tests.chaos.stack.scene import Say, Scene, Stage, wait_until
from tests.chaos.stack.truth import Truth
from tests.chaos.stack.verdict import EARLY_SECONDS, Incident, Rows, Span, silences, unfounded, unrecorded

RECONCILE_SECONDS: Final = 120.0
LOSES: Final[Mapping[Victim, tuple[str, ...]]] = {
    Victim.PUBSUB: ("single", "pair", "gaps"),
    Victim.STREAM_JOB: ("single",),
}
"""Which streams lose rows with a victim here, and never in the cloud: this Pub/Sub keeps nothing over a restart, and
the local runner acknowledges what it has not written yet. Reconciling them is part of their healing."""
FAILURES: Final = (RejeuError, OSError, httpx.HTTPError, GoogleAPIError)
"""How a scene that is not well answers."""


def play(scene: Scene, truth: Truth, planned: Round, say: Say) -> Played:
    """Play the round. What goes wrong is in its result, whatever it is."""
    played = Played(planned, [])
    begin = time.time()
    try:
        scene.await_well()
        epochs = {name: stage.state().epoch for name, stage in scene.stages.items()}
        begin = time.time()
        played = replace(played, kills=_strike(scene, planned), load=round(os.getloadavg()[0], 2))
        played = replace(played, silence=_await_signal(scene, played.kills, epochs))
        scene.await_well()
        played = replace(played, healed=round(time.time() - played.kills[0].at, 2))
        _await_records(scene, truth, played, begin)
        played = replace(played, reconciled=_reconcile(scene, truth, planned, say))
        played = replace(played, rows={name: truth.rows(stage) for name, stage in scene.stages.items()})
    except FAILURES as error:
        played = replace(played, broken=[f"{type(error).__name__}: {error}"])
    return _judge(scene, truth, played, begin)


def _strike(scene: Scene, planned: Round) -> list[Kill]:
    """Kill them, in their order, and bring back what supervisord was told to leave alone."""
    pids = {victim: scene.pid(victim) for victim in planned.victims}
    time.sleep(planned.moment)
    kills = list[Kill]()
    for victim, pid in pids.items():
        if kills:
            time.sleep(planned.between)
        kills.append(Kill(victim, scene.kill(pid)))
        if victim.is_part:
            scene.keep_away(victim)
    for each in kills:
        if each.victim.is_part:
            time.sleep(max(0.0, each.at + planned.away - time.time()))
            scene.let_back(each.victim)
    return kills


def _await_signal(scene: Scene, kills: Sequence[Kill], epochs: Mapping[str, int]) -> float | None:
    """Wait for the first message of the killed replay's successor; how long that was after the last of them died."""
    killed = _replay_kill(kills)
    if killed is None:
        return None
    stage = _stage(scene, killed.victim)
    last = max(each.at for each in kills if each.victim in (killed.victim, Victim.STANDBY))
    epoch = epochs[stage.name]
    wait_until(lambda: stage.tap.next_after(last, epoch) is not None, f"{stage.name}: no message came any more")
    came = stage.tap.next_after(last, epoch)
    return None if came is None else round(came.arrived - last, 3)


def _await_records(scene: Scene, truth: Truth, played: Played, begin: float) -> None:
    """Wait until every silence is an incident in the table, and no watchdog works any more."""

    def is_written() -> bool:
        incidents = truth.incidents()
        return not any(_missed(stage, incidents, played, begin) for stage in scene.stages.values()) and not any(
            run["state"] not in ENDED for name in scene.stages for run in scene.airflow.runs(f"{name}.watchdog")
        )

    wait_until(is_written, "a silence has no incident, or a watchdog run has no end", poll_seconds=1.0)


def _reconcile(scene: Scene, truth: Truth, planned: Round, say: Say) -> dict[str, int]:
    """Compare the streams that lost rows with their sources; how many each lacked before."""
    names = sorted({name for victim in planned.victims for name in LOSES.get(victim, ())})
    lacked = {name: truth.rows_now(scene.stages[name]).missing for name in names}
    runs = {name: scene.airflow.trigger(f"{name}.reconcile") for name in names}
    for name, run_id in runs.items():
        scene.airflow.follow(f"{name}.reconcile", run_id, RECONCILE_SECONDS, say)
    return lacked


def _judge(scene: Scene, truth: Truth, played: Played, begin: float) -> Played:
    try:
        incidents = [each for each in truth.incidents() if each.resumed_at > begin]
    except FAILURES as error:
        return replace(played, broken=[*played.broken, f"the incidents cannot be read: {error}"])
    broken = list(played.broken)
    for name, stage in scene.stages.items():
        own = [each for each in incidents if each.stream == name]
        broken += [
            f"{name}: an incident without a silence: {each.cause}" for each in unfounded(_seen(stage, begin), own)
        ]
        missed = _missed(stage, incidents, played, begin)
        broken += [f"{name}: {each.end - each.begin:.1f} s of silence without an incident" for each in missed]
    broken += [f"{name}: {words_of(rows)}" for name, rows in played.rows.items() if rows.wrong]
    return _dated(scene, replace(played, incidents=incidents, broken=broken))


def _dated(scene: Scene, played: Played) -> Played:
    """With the times of the killed replay's own incident."""
    killed = _replay_kill(played.kills)
    if killed is None:
        return played
    name = _stage(scene, killed.victim).name
    own = next((each for each in played.incidents if each.stream == name), None)
    if own is None:
        return played
    relaunched = None if own.relaunched_at is None else round(own.relaunched_at - killed.at, 2)
    return replace(
        played,
        detected=round(own.detected_at - killed.at, 2),
        relaunched=relaunched,
        resumed=round(own.resumed_at - killed.at, 2),
    )


def _seen(stage: Stage, begin: float) -> list[Span]:
    return silences(stage.due(), stage.tap.since(begin), stage.feed.silence - EARLY_SECONDS)


def _missed(stage: Stage, incidents: Sequence[Incident], played: Played, begin: float) -> list[Span]:
    own = [each for each in incidents if each.stream == stage.name]
    outages = [Span(each.at, each.at + (played.healed or 0.0)) for each in played.kills if each.victim is Victim.PUBSUB]
    return unrecorded(_seen(stage, begin), own, outages, stage.feed.silence)


def _replay_kill(kills: Sequence[Kill]) -> Kill | None:
    return next((each for each in kills if each.victim in REPLAYS), None)


def _stage(scene: Scene, victim: Victim) -> Stage:
    return scene.stages["pair" if victim is Victim.HOLDER else "single"]


def words_of(rows: Rows) -> str:
    """What the live view has of them, for people."""
    return f"of {rows.due:,} rows {rows.missing:,} missing, {rows.doubled:,} doubled, {rows.strange:,} strange"
