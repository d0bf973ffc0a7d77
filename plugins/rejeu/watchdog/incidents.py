"""When an incident is over, and the row that it then becomes. No Airflow, and nothing here asks BigQuery."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rejeu.bigquery.records import IncidentRow
from rejeu.errors import StateError
from rejeu.ports import EndedBy, Signal, StateStore, Verdict
from rejeu.spec.model import StreamSpec
from rejeu.state.documents import stream_names
from rejeu.state.lease import read_state, update_state
from rejeu.state.model import End, Incident, Status, StreamState

log = logging.getLogger(__name__)

OVER: Final = frozenset({Signal.FLOWING, Signal.QUIET, Signal.FINISHED, Signal.STOPPED})
"""The signal is back, or nobody waits for it any more."""


@dataclass(frozen=True)
class Over:
    """An incident that is over: there is no such thing without its end."""

    incident: Incident
    end: End


def ended(state: StreamState, verdict: Verdict, silence: timedelta, now: datetime) -> list[Over]:
    """The incidents that are over and not recorded yet.

    A silence whose replay was relaunched is over with the first row that is acknowledged after that. Where no row
    comes it is over once no row is due: the replay holds the lease and its next row is due later, or it has had the
    lease for `silence` and knows of no next row, or the source is at its end. A stop ends every silence. Until one of
    these is so, the incident is open, whatever the signal is said to be.
    """
    found = []
    for incident in state.ended_incidents:
        end = incident.end or (_end(incident, state, verdict, silence, now) if verdict.signal in OVER else None)
        if end is not None and not incident.recorded:
            found.append(Over(incident, end))
    return found


def still_open(store: StateStore, stream: str | None) -> list[tuple[str, Incident]]:
    """The silences that last, each with its stream: they have no row before they are over. Raises StateError.

    A document that cannot be read is told of, and hides no other stream's.
    """
    states = []
    for name in stream_names(store):
        if stream in (None, name):
            try:
                states.append(read_state(store, name))
            except StateError as error:
                log.warning("%s", error)
    lasts = [(state, state.ended_incidents[-1]) for state in states if state is not None and state.incidents]
    return [(state.stream, last) for state, last in lasts if state.wanted and not (last.end or last.recorded)]


def mark_recorded(store: StateStore, stream: str, recorded: list[Over]) -> None:
    """Forget what is in the table, the last incident excepted."""
    ends = {each.incident.lost_at: each.end for each in recorded}

    def mark(state: StreamState) -> StreamState:
        marked = [
            each.model_copy(update={"recorded": True, "end": ends[each.lost_at]}) if each.lost_at in ends else each
            for each in state.incidents
        ]
        kept = [each for at, each in enumerate(marked, start=1) if not each.recorded or at == len(marked)]
        return state.model_copy(update={"incidents": tuple(kept)})

    update_state(store, stream, mark)


def row_of(over: Over, spec: StreamSpec, state: StreamState, launcher: str) -> IncidentRow:
    """The row of an incident that is over."""
    incident, end = over.incident, over.end
    # A relaunch continues at the cursor, so nothing is lost; what somebody skipped who began anew, nobody counts.
    continues = spec.replay is not None and incident.since == state.since and not incident.lossy
    return IncidentRow(
        stream=spec.stream,
        lost_at=incident.lost_at,
        detected_at=incident.detected_at,
        relaunched_at=incident.relaunched_at,
        resumed_at=end.at,
        ended_by=end.by,
        gap_seconds=round((end.at - incident.lost_at).total_seconds(), 3),
        cause=incident.cause,
        rows_owed=end.rows_owed,
        rows_lost=0 if continues else None,
        probe=incident.probe,
        launcher=launcher,
        dag_run_id=incident.dag_run_id,
    )


def _end(incident: Incident, state: StreamState, verdict: Verdict, silence: timedelta, now: datetime) -> End | None:
    """What ended this incident, by a verdict that the silence is over; None where that is not sure yet."""
    if verdict.signal is Signal.STOPPED:
        return End(at=now, by=EndedBy.STOP)
    began = incident.relaunched_at or incident.lost_at
    if end := state.end_by_rows(began):
        return end
    if verdict.signal is Signal.FLOWING and verdict.last_seen is not None and verdict.last_seen > began:
        return End(at=verdict.last_seen, by=EndedBy.SIGNAL)
    if state.status is Status.FINISHED:
        return End(at=max(state.status_at or now, began), by=EndedBy.FINISHED, rows_owed=state.owed)
    if incident.relaunched_at is None:
        # Nothing was relaunched, so nothing has to come back.
        return End(at=max(verdict.last_seen or now, began), by=EndedBy.NOTHING_DUE)
    back_at = state.status_at if state.holder is not None and state.status is Status.RUNNING else None
    if back_at is None or not _knows_of_nothing_due(state, back_at + silence, now):
        return None
    return End(at=max(back_at, began), by=EndedBy.NOTHING_DUE, rows_owed=state.owed)


def _knows_of_nothing_due(state: StreamState, patience_ends: datetime, now: datetime) -> bool:
    """Whether the replay that holds the lease has said that no row is due, or has been silent about it for long."""
    if state.lease_until is None or state.lease_until <= now or not state.ready:
        return False
    return patience_ends <= now if state.next_due is None else state.next_due > now
