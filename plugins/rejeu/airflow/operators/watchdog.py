"""The operators of `<stream>.watchdog`: look again, relaunch at the cursor, record the incident."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from rejeu import sql
from rejeu.airflow.operators.base import StreamOperator
from rejeu.live import announce, make_probe, relaunch_request
from rejeu.state.lease import read_state, release_dead
from rejeu.timeline import format_instant, parse_instant

if TYPE_CHECKING:
    from airflow.sdk import Context


class RelaunchReplay(StreamOperator):
    """Looks again whether the signal is gone, fences the dead replay off, and starts one at its cursor.

    Skips where the signal is back or the stream was stopped meanwhile. Its result is the incident as far as known.
    """

    def __init__(self, *, signal_asset: Asset, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.signal_asset = signal_asset

    def execute(self, context: Context) -> dict[str, Any]:
        now = datetime.now(UTC)
        verdict = make_probe(self.spec, self.store).check(now)
        state = read_state(self.store, self.spec.stream)
        if not verdict.signal.needs_relaunch or state is None:
            raise AirflowSkipException(f"{self.spec.stream}: {verdict.signal}: nothing to repair")
        if not state.request:
            raise AirflowSkipException(
                f"{self.spec.stream}: no replay ever took the lease: run {self.spec.stream}.live"
            )
        request = relaunch_request(state)
        # A replay without a sign of life may still exist, paused or cut off: it must be gone before another comes.
        self.stop_replays(request, drain=False)
        release_dead(self.store, self.spec.stream, state.epoch)
        if not announce(self.store, self.spec.stream, wish=False).wanted:
            raise AirflowSkipException(f"{self.spec.stream}: stopped on request meanwhile")
        job = self.start_replays(request)
        self.log.warning("%s: %s: relaunched at the cursor: %s", self.spec.stream, verdict.detail, job.detail)
        lost_at = format_instant(verdict.lost_at or now)
        return {
            "lost_at": lost_at,
            "detected_at": self._detected_at(context, lost_at) or format_instant(now),
            "relaunched_at": format_instant(datetime.now(UTC)),
            "cause": verdict.detail,
            "epoch": state.epoch,
        }

    def _detected_at(self, context: Context, lost_at: str) -> str | None:
        """When the trigger first saw this silence; several events make one run, some perhaps of the silence before."""
        events = context["triggering_asset_events"].get(self.signal_asset, ())
        seen = [event.extra["payload"]["detected_at"] for event in events if "payload" in (event.extra or {})]
        return min((instant for instant in seen if instant >= lost_at), default=None)


class RecordIncident(StreamOperator):
    """Writes the incident into the table of incidents: one row a silence."""

    template_fields = ("incident",)

    def __init__(self, *, incident: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.incident = incident

    def execute(self, context: Context) -> dict[str, Any]:
        from google.cloud import bigquery

        from rejeu.gcp.resources import INCIDENT_COLUMNS, INCIDENT_KEY

        state = read_state(self.store, self.spec.stream)
        assert state is not None, "a stream that was relaunched has a state"
        resumed = state.resumed_at or datetime.now(UTC)
        lost = parse_instant(self.incident["lost_at"])
        row = {
            "stream": self.spec.stream,
            **{name: self.incident[name] for name in ("lost_at", "detected_at", "relaunched_at", "cause")},
            "resumed_at": format_instant(resumed),
            "gap_seconds": round((resumed - lost).total_seconds(), 3),
            "rows_owed": state.owed,
            "rows_lost": 0,
            "probe": self.spec.watchdog.probe,
            "launcher": self.target.launcher,
            "dag_run_id": str(context["run_id"]),
        }
        types = {column.name: column.type for column in INCIDENT_COLUMNS}
        parameters = [bigquery.ScalarQueryParameter(name, types[name], row[name]) for name in types]
        self.bigquery().query(
            sql.insert_once(self.target.incidents, list(types), INCIDENT_KEY),
            job_config=bigquery.QueryJobConfig(query_parameters=parameters),
        ).result()
        self.log.warning("%s: incident over: %s", self.spec.stream, row)
        return row
