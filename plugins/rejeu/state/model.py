"""StreamState: the one document of a stream, typed; what each field means, and nothing that reads or writes it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, NonNegativeInt, PlainSerializer, model_validator

from rejeu.errors import StateError
from rejeu.ports import EndedBy
from rejeu.spec.types import SavedSpeed
from rejeu.state.documents import ClockTime, Document, Part
from rejeu.timeline import Position, Timeline, from_us

KEPT: Final = PlainSerializer(lambda value: dict(vars(value)), return_type=dict[str, Any])
"""Writes a value of the timeline with the fields that only another version of Rejeu knows."""


def _a_position(position: Position) -> Position:
    _instant("event_us", position.event_us)
    if position.count < 0:
        raise ValueError(f"count is {position.count}: it must be 0 or more")
    return position


def _a_timeline(timeline: Timeline) -> Timeline:
    _instant("event_us", timeline.event_us)
    _instant("wall_us", timeline.wall_us)
    if timeline.speed is not None and not 0 < timeline.speed < float("inf"):
        raise ValueError(f"speed is {timeline.speed}: it must be a number above 0, or null")
    return timeline


def _instant(name: str, microseconds: int) -> datetime:
    try:
        return from_us(microseconds)
    except OverflowError:
        raise ValueError(f"{name} is {microseconds}: it must lie in the years 1 to 9999") from None


StoredPosition = Annotated[Position, AfterValidator(_a_position), KEPT]
StoredTimeline = Annotated[Timeline, AfterValidator(_a_timeline), KEPT]


class Status(StrEnum):
    """What the last replay of a stream said of itself."""

    STARTING = "starting"
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


class End(Part):
    """When a silence was over, and what ended it. Aware UTC."""

    at: ClockTime
    by: EndedBy
    rows_owed: NonNegativeInt | None = None
    """Rows that were due already when the replay was back; None where nobody knows."""


class Incident(Part):
    """One silence, from the first row that did not come to its end. Instants are aware UTC."""

    lost_at: ClockTime
    detected_at: ClockTime
    relaunched_at: ClockTime | None = None
    """When the last relaunch was decided; None where a relaunch is not the remedy."""
    end: End | None = None
    """None while the silence lasts, or its end is only in the rest of the state."""
    cause: str
    probe: str
    dag_run_id: str
    """The first run that handled it."""
    cursor: StoredPosition | None = None
    """The stream's cursor when the signal was lost: a relaunch that leaves it there did not help."""
    since: StoredPosition | None = None
    """`StreamState.since` at that time: where it differs now, somebody has restarted the stream elsewhere."""
    attempts: NonNegativeInt = 1
    """How many relaunches this silence has had."""
    retry_at: ClockTime | None = None
    """There is no further relaunch before this instant."""
    given_up: bool = False
    lossy: bool = False
    """Whether rows that were acknowledged may be missing from the tables: how many, only `reconcile` can tell."""
    recorded: bool = False
    """Whether its row is in the table of incidents."""

    @model_validator(mode="before")
    @classmethod
    def _end_in_two_fields(cls, content: Any) -> Any:
        """Incidents once had two fields in the place of `end`: when rows ended it, and how many were owed."""
        if not isinstance(content, dict) or "end" in content or "resumed_at" not in content:
            return content
        kept = {name: value for name, value in content.items() if name not in ("resumed_at", "rows_owed")}
        if content["resumed_at"] is None:
            return kept
        end = {"at": content["resumed_at"], "by": EndedBy.SIGNAL, "rows_owed": content.get("rows_owed")}
        return {**kept, "end": end}


def forgive(incident: Incident) -> Incident:
    """The same incident with its count of relaunches back at 0."""
    return incident.model_copy(update={"attempts": 0, "retry_at": None, "given_up": False})


class StreamState(Document):
    """What a stream remembers between its replays. Instants are aware UTC."""

    remedy = "mend that field, or restore an older version of the document; keep the document: it holds the cursor"

    stream: str
    wanted: bool = True
    """Whether somebody wants the stream to run: `stop` says no, and then silence is no fault."""
    paused: bool = False
    """Whether somebody wants the replay to pause; its time stands still meanwhile."""
    speed: SavedSpeed | None = None
    """The speed that somebody wants instead of the request's."""
    epoch: NonNegativeInt = 0
    """The fencing number: grows with each new holder of the lease."""
    holder: str | None = None
    """`host:pid:token` of the replay that holds the lease; the token tells containers apart that share the rest."""
    lease_until: ClockTime | None = None
    status: Status = Status.STARTING
    status_at: ClockTime | None = None
    error: str | None = None
    cursor: StoredPosition | None = None
    timeline: StoredTimeline | None = None
    heartbeat: ClockTime | None = None
    next_due: ClockTime | None = None
    """When the next unacknowledged row is due; None while that is not known."""
    ready: bool = True
    """Whether this epoch's replay has read its source; until then `next_due` is what the one before it knew."""
    last_published: ClockTime | None = None
    resumed_at: ClockTime | None = None
    """When the first row of this epoch was acknowledged."""
    owed: NonNegativeInt = 0
    """Rows that were already due when this epoch began: those that the silence before it had held back."""
    published: NonNegativeInt = 0
    """Rows acknowledged under this epoch."""
    request: tuple[str, ...] = ()
    """The arguments of the last replay: what a relaunch repeats, from the cursor."""
    announced: tuple[str, ...] = ()
    """The arguments of a replay that was started and has not taken the lease yet: a relaunch repeats them unchanged."""
    since: StoredPosition | None = None
    """Where this replay began, or the first of those that it continues; None: at the source's first row."""
    incidents: tuple[Incident, ...] = ()
    """Those whose row is not in the table yet, and the last one, which shows whether a relaunch helped."""

    @property
    def ended_incidents(self) -> tuple[Incident, ...]:
        """The incidents, with the end that this epoch's first row was for the last one.

        Whoever begins the next epoch, or stops the stream, saves them: the state then forgets that row.
        """
        return tuple(self._ended(each) for each in self.incidents)

    def end_by_rows(self, since: datetime) -> End | None:
        """The end of a silence, where this epoch's first row came after this instant."""
        if self.resumed_at is None or self.resumed_at < since:
            return None
        return End(at=self.resumed_at, by=EndedBy.SIGNAL, rows_owed=self.owed)

    def _ended(self, incident: Incident) -> Incident:
        if incident.end is not None or incident.recorded or incident.relaunched_at is None:
            return incident
        return incident.model_copy(update={"end": self.end_by_rows(incident.relaunched_at)})

    def is_leased(self, now: datetime) -> bool:
        """Whether somebody holds the lease, by this time of day."""
        return self.holder is not None and self.lease_until is not None and self.lease_until > now

    @property
    def holder_process(self) -> tuple[str, int] | None:
        """Host and process id of the holder. Raises StateError where it is none of ours."""
        if self.holder is None:
            return None
        host, _, rest = self.holder.partition(":")
        pid = rest.partition(":")[0]
        if not (pid.isascii() and pid.isdigit()):
            raise StateError(f"state of {self.stream}: holder is {self.holder!r}: it must be host:pid:token")
        return host, int(pid)
