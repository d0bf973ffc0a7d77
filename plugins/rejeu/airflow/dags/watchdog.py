"""`<stream>.watchdog`: runs when the signal or a part is gone, and brings it back."""

from __future__ import annotations

from typing import Final

from airflow.sdk import Asset, AssetWatcher, TriggerRule, chain

from rejeu.airflow.dags.kind import SOON, DagKind, asset_of
from rejeu.airflow.operators.live import AwaitSignal
from rejeu.airflow.operators.watchdog import RUNS, RecordIncident, RelaunchReplay, Restore
from rejeu.airflow.triggers import SilenceTrigger
from rejeu.spec.model import StreamSpec
from rejeu.target import Target


def _signal_asset(spec: StreamSpec, target: Target | None) -> Asset:
    """The asset whose events call the watchdog; where the settings are wrong, nobody can watch."""
    if target is None:
        return asset_of(spec, "signal")
    watcher = AssetWatcher(name=f"{spec.stream}.silence", trigger=SilenceTrigger.watching(spec, target))
    return asset_of(spec, "signal", watchers=[watcher])


def _tasks(spec: StreamSpec) -> None:
    # No retries: the watcher repeats its event until the signal is back, and each run looks again.
    relaunch = RelaunchReplay(task_id="relaunch", spec=spec, signal_asset=asset_of(spec, "signal"), retries=0)
    signal = AwaitSignal(task_id="await_signal", spec=spec, **SOON)
    # Both also after a run that had nothing to relaunch: an incident may be open still, or a part be missing.
    record = RecordIncident(task_id="record_incident", spec=spec, trigger_rule=TriggerRule.NONE_FAILED)
    restore = Restore(task_id="restore", spec=spec, trigger_rule=TriggerRule.ALL_DONE)
    chain(relaunch, signal, [record, restore])


def _page(spec: StreamSpec) -> str:
    watchdog = spec.watchdog
    if spec.replay is None:
        repair = """
        Somebody else publishes this stream, so there is nothing to relaunch: a run writes the silence down, tells it
        to a person, and closes it when the signal is back. The streaming job is ours, and is restored."""
    else:
        repair = f"""
        Each run looks again before it does anything, relaunches the replay at its cursor, waits for the signal and
        writes one row into the table of incidents. It also restores what else is gone: the replay that stands by, and
        the streaming job. A run that is skipped found nothing to do.

        After {watchdog.attempts} relaunches that leave the stream where it was the watchdog gives up: the run fails
        and names the crash loop, most often a row that cannot be published. Mend it, then run `{spec.stream}.live`."""
    return f"""
        Silence is {watchdog.silence.total_seconds():g} s without a row *while rows are due*; a quiet stretch of
        the source is not silence. The probe: {", ".join(watchdog.probe)}.
        {repair}

        Up to three runs go on at once, so that a silence waits for no run that restores, or awaits the signal.

        Nobody needs to trigger it. **Pausing it pauses the watch.** Where the triggerer is dead, `rejeu.patrol`
        starts it.

        On managed Airflow the triggerer reads neither DAGs nor plugins: the rejeu wheel must be installed there.
        """


WATCHDOG: Final = DagKind(
    name="watchdog",
    purpose="repair a silence",
    summary="Runs when the signal or a part disappears: relaunches the replay at its cursor, records the incident.",
    page=_page,
    schedule=lambda spec, target: [_signal_asset(spec, target)],
    tasks=_tasks,
    # Airflow makes no watcher for a paused DAG, and nobody would know that nothing is watched.
    arguments={"max_active_runs": RUNS, "is_paused_upon_creation": False},
)
