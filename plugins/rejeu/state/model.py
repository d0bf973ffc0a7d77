"""StreamState: the one document of a stream, typed; what each field means, and nothing that reads or writes it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from rejeu.request import Speed
from rejeu.timeline import Position, Timeline


class Status(StrEnum):
    """What the last replay of a stream said of itself."""

    STARTING = "starting"
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


class StreamState(BaseModel):
    """What a stream remembers between its replays. Instants are aware UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str
    wanted: bool = True
    """Whether somebody wants the stream live: `stop` says no, and then silence means nothing."""
    paused: bool = False
    """Whether somebody wants the replay to hold its place and wait; its time stands still."""
    speed: Speed | None = None
    """The speed that somebody wants in place of the request's."""
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
    last_published: datetime | None = None
    resumed_at: datetime | None = None
    """When the first row of this epoch was acknowledged."""
    owed: int = 0
    """Rows that were already due when this epoch began: what the silence before it had held back."""
    published: int = 0
    """Rows acknowledged under this epoch."""
    request: tuple[str, ...] = ()
    """The arguments of the last replay: what a relaunch repeats, from the cursor."""

    @property
    def holder_process(self) -> tuple[str, int] | None:
        """Host and process id of the holder."""
        if self.holder is None:
            return None
        host, pid, *_ = self.holder.split(":")
        return host, int(pid)
