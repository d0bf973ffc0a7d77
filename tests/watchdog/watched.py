"""A stream whose replays come, publish and die as a test tells them, by a clock of its own; no fixture and no test."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from rejeu.jobs.request import CURSOR, ReplayRequest
from rejeu.ports import Verdict
from rejeu.state.lease import Lease, read_state
from rejeu.state.model import Incident, Status, StreamState
from rejeu.timeline import Position, parse_instant, to_us
from rejeu.watchdog.incidents import Over, ended
from rejeu.watchdog.probes.heartbeat import HeartbeatProbe
from rejeu.watchdog.repair import Seen, claim
from tests.fakes.crowded_store import Clock, CrowdedStore

STREAM = "clicks"
LEASE_SECONDS, SILENCE_SECONDS, GRACE_SECONDS = 3.0, 5.0, 30.0
FIRST = ReplayRequest.of(
    topic="projects/p/topics/t", stream=STREAM, file="rows.ndjson", event_time="at", state="sqlite:s.db"
)
AGAIN = FIRST.model_copy(update={"from_": CURSOR})


def place(second: int) -> Position:
    """Behind the row of this second."""
    return Position(to_us(parse_instant("2021-05-01T00:00:00Z") + timedelta(seconds=second)), 1)


class Watched:
    """The stream, its store and what is seen of it."""

    def __init__(self) -> None:
        self.clock, self.store = Clock(), CrowdedStore()
        silence, grace = timedelta(seconds=SILENCE_SECONDS), timedelta(seconds=GRACE_SECONDS)
        self._pids = itertools.count(1)
        self.probe = HeartbeatProbe(self.store, STREAM, silence, grace)

    @property
    def now(self) -> datetime:
        return self.clock.now(UTC)

    @property
    def state(self) -> StreamState:
        state = read_state(self.store, STREAM)
        assert state is not None
        return state

    def publishes(self, reached: Position | None, owed: int = 0) -> Lease:
        """A replay takes the lease and publishes up to there; the row after that is due at once."""
        holder = f"host:{next(self._pids)}"
        lease = Lease.acquire(self.store, STREAM, holder, LEASE_SECONDS, request=tuple(FIRST.to_argv()))
        if reached != lease.state.cursor:
            lease.checkpoint(cursor=reached, last_published=self.now, resumed_at=self.now, next_due=self.now)
        lease.checkpoint(status=Status.RUNNING, next_due=lease.state.next_due or self.now, owed=owed)
        return lease

    def is_back(self, next_due: datetime | None) -> Lease:
        """A replay holds the lease, and has published nothing yet."""
        lease = Lease.acquire(self.store, STREAM, f"host:{next(self._pids)}", LEASE_SECONDS)
        lease.checkpoint(status=Status.RUNNING, next_due=next_due)
        return lease

    def fails(self, reached: Position | None, error: str | None = None) -> None:
        """A replay comes, publishes up to there, and gives up."""
        self.publishes(reached).release(Status.FAILED, error)

    def pass_(self, seconds: float = SILENCE_SECONDS) -> None:
        """Let time go by: as long as makes a silence, unless told otherwise."""
        self.clock.elapsed += seconds

    def look(self) -> Verdict:
        return self.probe.check(self.now)

    def ended(self, verdict: Verdict | None = None) -> list[Over]:
        """The incidents that are over now."""
        return ended(self.state, verdict or self.look(), timedelta(seconds=SILENCE_SECONDS), self.now)

    def claim(self, run: str = "run-1", attempts: int = 3) -> tuple[ReplayRequest, Incident]:
        """A run of the watchdog looks, and takes the repair on."""
        return claim(self.store, STREAM, self.probe, self.seen(run), attempts)

    def seen(self, run: str = "run-1") -> Seen:
        return Seen(self.look(), self.now, run)
