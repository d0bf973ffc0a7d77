"""StreamState: the one document of a stream, typed; what each field means, and nothing that reads or writes it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from rejeu.ports import EndedBy
from rejeu.spec.types import SavedSpeed
from rejeu.timeline import Position, Timeline


class Status(StrEnum):
    """What the last replay of a stream said of itself."""

    STARTING = "starting"
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


class End(BaseModel):
    """When a silence was over, and what ended it. Aware UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime
    by: EndedBy
    rows_owed: int | None = None
    """Rows that were due already when the replay was back; None where nobody knows."""


class Incident(BaseModel):
    """One silence, from the first row that did not come to its end. Instants are aware UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lost_at: datetime
    detected_at: datetime
    relaunched_at: datetime | None = None
    """When the last relaunch was decided; None where a relaunch is not the remedy."""
    end: End | None = None
    """None while the silence lasts, or its end is only in the rest of the state."""
    cause: str
    probe: str
    dag_run_id: str
    """The first run that handled it."""
    cursor: Position | None = None
    """The stream's cursor when the signal was lost: a relaunch that leaves it there did not help."""
    since: Position | None = None
    """`StreamState.since` at that time: where it differs now, somebody has restarted the stream elsewhere."""
    attempts: int = 1
    """How many relaunches this silence has had."""
    retry_at: datetime | None = None
    """There is no further relaunch before this instant."""
    given_up: bool = False
    lossy: bool = False
    """Whether rows that were acknowledged may be missing from the tables: how many, only `reconcile` can tell."""
    recorded: bool = False
    """Whether its row is in the table of incidents."""


def forgive(incident: Incident) -> Incident:
    """The same incident with its count of relaunches back at 0."""
    return incident.model_copy(update={"attempts": 0, "retry_at": None, "given_up": False})


class StreamState(BaseModel):
    """What a stream remembers between its replays. Instants are aware UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str
    wanted: bool = True
    """Whether somebody wants the stream to run: `stop` says no, and then silence is no fault."""
    paused: bool = False
    """Whether somebody wants the replay to pause; its time stands still meanwhile."""
    speed: SavedSpeed | None = None
    """The speed that somebody wants instead of the request's."""
    epoch: int = 0
    """The fencing number: grows with each new holder of the lease."""
    holder: str | None = None
    """`host:pid:token` of the replay that holds the lease; the token tells containers apart that share the rest."""
    lease_until: datetime | None = None
    status: Status = Status.STARTING
    status_at: datetime | None = None
    error: str | None = None
    cursor: Position | None = None
    timeline: Timeline | None = None
    heartbeat: datetime | None = None
    next_due: datetime | None = None
    """When the next unacknowledged row is due; None while that is not known."""
    ready: bool = True
    """Whether this epoch's replay has read its source; until then `next_due` is what the one before it knew."""
    last_published: datetime | None = None
    resumed_at: datetime | None = None
    """When the first row of this epoch was acknowledged."""
    owed: int = 0
    """Rows that were already due when this epoch began: those that the silence before it had held back."""
    published: int = 0
    """Rows acknowledged under this epoch."""
    request: tuple[str, ...] = ()
    """The arguments of the last replay: what a relaunch repeats, from the cursor."""
    announced: tuple[str, ...] = ()
    """The arguments of a replay that was started and has not taken the lease yet: a relaunch repeats them unchanged."""
    since: Position | None = None
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

    @property
    def holder_process(self) -> tuple[str, int] | None:
        """Host and process id of the holder."""
        if self.holder is None:
            return None
        host, pid, *_ = self.holder.split(":")
        return host, int(pid)
