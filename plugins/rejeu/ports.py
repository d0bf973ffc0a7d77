"""The ports of Rejeu: what a state store, a launcher and a probe must do. No implementation lives here.

`rejeu.testing` ships a fake of each; `tests/launchers/` and `tests/state/` hold every implementation to the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class Versioned:
    """A document of the state store and the version that was read."""

    document: dict[str, Any]
    version: int


class StateStore(Protocol):
    """Small JSON documents with compare-and-set: enough for leases, cursors and heartbeats."""

    def load(self, name: str) -> Versioned | None:
        """The document, or None where there is none. Raises StateError where the store cannot be read."""
        ...

    def save(self, name: str, document: dict[str, Any], expected: int | None) -> int:
        """Write if the document is still at version `expected` (None: if there is none); return the new version.

        Raises StateConflictError where another writer was first, or where this write was made and its answer lost;
        StateError where the store cannot be written: whether the write was made is then unknown.
        """
        ...

    def remove(self, name: str, expected: int) -> None:
        """Remove the document if it is still at version `expected`; nobody can have it back.

        Raises StateConflictError where it is at another version or gone, and where this was done and its answer lost;
        StateError where the store cannot be written.
        """
        ...

    def names(self) -> list[str]:
        """The names of all documents, sorted."""
        ...


class JobState(StrEnum):
    """What a launcher can know of a job."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    """It was asked to end: it takes nothing new on, finishes what it has in hand, and then it ends."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED})


@dataclass(frozen=True)
class Job:
    """A job somewhere: `name` is ours and exact, `id` is the launcher's, `detail` is for a person to read.

    Ask its launcher again after `rest_seconds`, not sooner. `argv` is what it was started with; None where its launcher
    does not say.
    """

    name: str
    id: str
    state: JobState
    detail: str = ""
    rest_seconds: float = 0.0
    argv: tuple[str, ...] | None = None


class JobRequest(Protocol):
    """What a launcher needs to know of a request: a module to run, its arguments, a name no other job has.

    A job with a `ready_text` is starting until it has printed that text; without one it runs as soon as it is up.
    """

    @property
    def ready_text(self) -> str | None: ...

    @property
    def job_name(self) -> str: ...

    @property
    def module(self) -> str: ...

    def to_argv(self) -> Sequence[str]: ...


class Launcher(Protocol):
    """Starts, finds, watches and stops jobs; never has two running jobs of one name."""

    def start(self, request: JobRequest) -> Job:
        """Start the job, or adopt the one of that name that runs. Raises LaunchError.

        One that drains is not adopted: it is returned as it is, and nothing was started. Await its end (`stop` does),
        then start the job.
        """
        ...

    def find(self, name: str) -> Job | None:
        """The newest job of exactly this name, whatever its state."""
        ...

    def find_active(self, names: Collection[str]) -> dict[str, Job]:
        """Those of these jobs that have not ended, by their names; the place is asked once for all of them.

        What only a question about one job would tell is left out: whether it is ready, and what it was started with.
        Raises LaunchError.
        """
        ...

    def stop(self, name: str, *, drain: bool = True) -> Job | None:
        """End the job and await its end; with `drain` it may finish what it has in hand first.

        One that drains already is only waited for. None where there is no such job. Raises LaunchError.
        """
        ...


@runtime_checkable
class UpdatingLauncher(Launcher, Protocol):
    """A launcher that can give a job that runs other arguments, and the job loses nothing of what it has in hand."""

    def update(self, request: JobRequest, renamed: Mapping[str, str] | None = None) -> Job:
        """Update the job of this name to the request, and wait until it is. Raises LaunchError where it cannot.

        `renamed` maps old names of the job's steps to new ones.
        """
        ...


class Signal(StrEnum):
    """What a probe says of the signal."""

    FLOWING = "flowing"
    QUIET = "quiet: no row is due"
    SILENT = "silent: rows are due and nobody publishes"
    STALLED = "stalled: the replay lives and rows are due, yet none are acknowledged"
    UNDELIVERED = "undelivered: rows are acknowledged, yet none arrive on the topic"
    STARTING = "starting"
    WAITING = "waiting: the last relaunch did not help, the next one comes later"
    GIVEN_UP = "given up: relaunches do not help, so a person must look"
    STOPPED = "stopped on request"
    FINISHED = "finished"
    UNKNOWN = "unknown"

    @property
    def needs_relaunch(self) -> bool:
        """Whether another replay can bring the signal back: only where it is gone while rows are due."""
        return self is Signal.SILENT


class Reason(StrEnum):
    """Why a probe says that the signal is silent."""

    DIED = "the replay died: its lease ran out"
    FAILED = "the replay failed"
    ENDED = "the replay was ended, though the stream is wanted"
    NEVER_CAME = "the replay was started and never came"
    NOTHING_ARRIVES = "nothing arrives on the topic"
    NOTHING_PUBLISHED = "Cloud Monitoring counts no message published to the topic"


class EndedBy(StrEnum):
    """What ended a silence."""

    SIGNAL = "signal"
    """Rows came again: the first of them ended it."""
    NOTHING_DUE = "nothing_due"
    """The replay was back and no row was due: it ended when the replay took the lease."""
    FINISHED = "finished"
    """The replay was back and its source had no further row: it ended when the replay said so."""
    STOP = "stop"
    """A person stopped the stream: from then on nobody waited for rows."""
    NEXT = "next"
    """The next silence began before anything was seen to end this one."""
    MENDED = "mended"
    """What the streaming job reads had been cut off from the topic, and was made anew: from then on rows arrive."""


class Missing(StrEnum):
    """The parts of a wanted stream that can be missing while its signal flows."""

    STANDBY = "nobody stands by"
    STREAM_JOB = "the streaming job is gone"


@dataclass(frozen=True)
class Verdict:
    """What a probe saw: `lost_at` is when the first row was due that did not come.

    `last_seen` is when the signal was last there, as far as this probe knows. `look_again` is the earliest instant at
    which the probe could see silence if nothing changes; None where it does not know. A silence is certain once the
    `lease` of its replay has stood still for `unsure_seconds` more: another machine's clock may be behind.
    """

    signal: Signal
    last_seen: datetime | None = None
    lost_at: datetime | None = None
    detail: str = ""
    reason: Reason | None = None
    probe: str = "heartbeat"
    missing: frozenset[Missing] = frozenset()
    look_again: datetime | None = None
    unsure_seconds: float = 0.0
    lease: str = ""


class Probe(Protocol):
    """Tells whether a stream's topic is alive."""

    def check(self, now: datetime) -> Verdict:
        """What is known at this instant. Raises RejeuError where nothing can be known."""
        ...


class Witness(Probe, Protocol):
    """A probe that sees messages and cannot know which are due."""

    def excuse(self, until: datetime) -> None:
        """Silence counts from then on: nothing was due before."""
        ...


@dataclass(frozen=True)
class Watched:
    """What a probe is told of the stream that it watches."""

    stream: str
    project: str
    topic: str
    """The topic's id in the project."""
    tap: str
    """The full name of the watchdog's own subscription, which is there where the probe `needs_tap`."""
    metric: str
    silence: timedelta
    grace: timedelta
    standby: bool
    lease: timedelta
    """How long a holder keeps the stream from whom nothing is heard."""
    store: StateStore
    last_seen: datetime | None = None
    """When the last signal was there, as far as whoever looked before knows."""


@dataclass(frozen=True)
class ProbeKind:
    """A probe as specs name it: the value of PROBE in its module. `make` is called in the triggerer, too."""

    make: Callable[[Watched], Any]
    """Makes the probe: a Witness, unless it `knows_due`. It brings its library only now."""
    knows_due: bool = False
    """Whether it knows which rows are due, as the replay's own state does; then it needs a replay of ours."""
    sees_delivery: bool = False
    """Whether it sees what arrives on the topic; else it sees what was published, as the heartbeat does."""
    needs_tap: bool = False
    """Whether the watchdog's own subscription of the topic is made for it."""
