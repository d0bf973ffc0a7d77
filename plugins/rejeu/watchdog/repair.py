"""What the watchdog decides about a silence, without Airflow: who repairs it, and how often.

When it is over, `incidents.py` decides.

Each decision is one compare-and-set on the stream's document, so however many look, one repairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from rejeu.errors import GivenUpError, NothingToRepairError, RequestError, StateError
from rejeu.jobs.request import CURSOR, ReplayRequest
from rejeu.ports import EndedBy, StateStore, Verdict
from rejeu.state.lease import update_state
from rejeu.state.model import End, Incident, Status, StreamState
from rejeu.timeline import format_instant, from_us
from rejeu.watchdog.probes.heartbeat import HeartbeatProbe

FIRST_DELAY: Final = timedelta(seconds=5)
LONGEST_DELAY: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Seen:
    """A silence as the caller knows it: what was seen, when first, and in which DAG run it is seen to."""

    verdict: Verdict
    detected_at: datetime
    dag_run_id: str


def relaunch_request(state: StreamState) -> ReplayRequest:
    """The stream's last replay once more, from its cursor; one that never took the lease as it was asked for.

    Raises StateError where this version cannot read what is stored.
    """
    if state.announced:
        return _stored(state, state.announced)
    return _stored(state, state.request).model_copy(update={"from_": CURSOR})


def _stored(state: StreamState, argv: Sequence[str]) -> ReplayRequest:
    try:
        return ReplayRequest.from_stored(argv)
    except RequestError as error:
        raise StateError(
            f"state of {state.stream}: the stored request cannot be read: {error}. If a newer Rejeu wrote it, run that "
            f"version here too, else run {state.stream}.live; leave the document as it is: it holds the cursor"
        ) from error


def claim(
    store: StateStore, stream: str, probe: HeartbeatProbe, seen: Seen, attempts: int
) -> tuple[ReplayRequest, Incident]:
    """Take the repair of a silence on: the dead replay is fenced off and the incident written down, or nothing is.

    Raises NothingToRepairError where the signal is back or somebody else was first, GivenUpError where `attempts`
    relaunches have left the stream where it was.
    """
    now = datetime.now(UTC)
    written: StreamState | None = None

    def fence(state: StreamState) -> StreamState:
        nonlocal written
        if state == written:  # by this very claim, whose answer was lost
            return state
        verdict = probe.judge(state, now)
        if not verdict.signal.needs_relaunch:
            raise NothingToRepairError(f"{stream}: {verdict.signal}: nothing to repair")
        if verdict.unsure_seconds > 0 and verdict.lease != seen.verdict.lease:
            raise NothingToRepairError(f"{stream}: its lease was renewed just now: nothing to repair")
        if not (state.request or state.announced):
            raise NothingToRepairError(f"{stream}: no replay was ever started: run {stream}.live")
        incident = _incident(state, verdict, seen, now)
        if incident.attempts > attempts:
            written = state.model_copy(update={"incidents": _with_last(state, _given_up(state, incident))})
            return written
        written = state.model_copy(
            update={
                # Nobody need wait for the lease to run out, and whoever held it can save nothing any more.
                "epoch": state.epoch + 1,
                "holder": None,
                "lease_until": None,
                "resumed_at": None,
                "status": Status.STARTING,
                "status_at": now,
                "error": None,
                "announced": tuple(relaunch_request(state).to_argv()),
                "incidents": _with_last(state, incident),
            }
        )
        return written

    state = update_state(store, stream, fence)
    incident = state.incidents[-1]
    if incident.given_up:
        raise GivenUpError(f"{stream}: {incident.cause}; mend the cause, then run {stream}.live")
    return _stored(state, state.announced), incident


def note(store: StateStore, stream: str, seen: Seen) -> Incident:
    """Write a silence down that no relaunch can end: somebody else publishes, or what is published does not arrive.

    Raises NothingToRepairError where it is known already.
    """
    now = datetime.now(UTC)

    def write(state: StreamState) -> StreamState:
        last = _last(state)
        if last is not None and _is_open(last) and last.dag_run_id != seen.dag_run_id:
            raise NothingToRepairError(f"{stream}: silent, as is known since {format_instant(last.detected_at)}")
        unrepaired = {"relaunched_at": None, "attempts": 0, "retry_at": None}
        incident = _new_incident(state, seen.verdict, seen, now).model_copy(update=unrepaired)
        return state.model_copy(update={"incidents": _with_last(state, incident)})

    return update_state(store, stream, write).incidents[-1]


def note_loss(store: StateStore, stream: str, cause: str, dag_run_id: str) -> Incident:
    """Write down that acknowledged rows may be missing: with the silence that lasts, else as an incident of its own.

    It is for what is mended already: since when rows went nowhere, nobody knows.
    """
    now = datetime.now(UTC)

    def write(state: StreamState) -> StreamState:
        last = _last(state)
        if last is not None and _is_open(last):
            both = last.cause if cause in last.cause else f"{last.cause}; {cause}"
            incident = last.model_copy(update={"lossy": True, "cause": both})
        else:
            incident = Incident(
                lost_at=now,
                detected_at=now,
                end=End(at=now, by=EndedBy.MENDED),
                cause=cause,
                probe="look at the subscription",
                dag_run_id=dag_run_id,
                cursor=state.cursor,
                since=state.since,
                attempts=0,
                lossy=True,
            )
        return state.model_copy(update={"incidents": _with_last(state, incident)})

    return update_state(store, stream, write).incidents[-1]


def _incident(state: StreamState, verdict: Verdict, seen: Seen, now: datetime) -> Incident:
    """The same one as the last where that left the stream where it was, else a new one.

    One that is over has a row of its own; what comes after it is a new one, and continues its count.
    """
    last = _last(state)
    new = _new_incident(state, verdict, seen, now)
    if last is None or (last.cursor, last.since) != (state.cursor, state.since):
        return new
    attempts = last.attempts + 1
    delay = min(FIRST_DELAY * 2 ** min(attempts - 1, 10), LONGEST_DELAY)
    base = last if _is_open(last) else new
    return base.model_copy(update={"attempts": attempts, "relaunched_at": now, "retry_at": now + delay})


def _new_incident(state: StreamState, verdict: Verdict, seen: Seen, now: datetime) -> Incident:
    last, lost_at = _last(state), verdict.lost_at or now
    if last is not None and last.end is not None:
        # No silence begins before the one before it was over, however long ago its first row was due.
        lost_at = max(lost_at, last.end.at)
    return Incident(
        lost_at=lost_at,
        detected_at=seen.detected_at if seen.detected_at >= lost_at else now,
        relaunched_at=now,
        cause=f"{verdict.reason}: {verdict.detail}" if verdict.reason else verdict.detail,
        probe=seen.verdict.probe,
        dag_run_id=seen.dag_run_id,
        cursor=state.cursor,
        since=state.since,
        retry_at=now + FIRST_DELAY,
    )


def _given_up(state: StreamState, incident: Incident) -> Incident:
    """The incident without another relaunch: the last one, or, where that has its row already, one of its own."""
    last = state.incidents[-1]
    place = format_instant(from_us(state.cursor.event_us)) if state.cursor else "the source's first row"
    why = state.error or "it dies without a word: see its log"
    tried = "a relaunch" if last.attempts == 1 else f"{last.attempts} relaunches"
    cause = f"crash loop at {place}: {tried} did not get past it: {why}"
    base = last if _is_open(last) else incident.model_copy(update={"relaunched_at": None})
    return base.model_copy(update={"given_up": True, "cause": cause, "attempts": last.attempts, "retry_at": None})


def _last(state: StreamState) -> Incident | None:
    """The last incident, with its end where this state knows it."""
    return state.ended_incidents[-1] if state.incidents else None


def _is_open(incident: Incident) -> bool:
    return incident.end is None and not incident.recorded


def _with_last(state: StreamState, incident: Incident) -> tuple[Incident, ...]:
    """The incidents with this one at the end, in the place of itself where it is there; older recorded ones go."""
    others = [each for each in state.ended_incidents if each.lost_at != incident.lost_at and not each.recorded]
    return (*(_ended_before(each, incident) for each in others), incident)


def _ended_before(earlier: Incident, incident: Incident) -> Incident:
    """An earlier incident: where nothing was seen to end it, it ends when the next one begins."""
    if earlier.end is not None:
        return earlier
    end = End(at=max(earlier.lost_at, incident.lost_at), by=EndedBy.NEXT)
    return earlier.model_copy(update={"end": end})
