"""What `make chaos` leaves behind: every round, the calm, the signal by the second, and what they come to."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import psutil

from tests.chaos.stack.plan import Mishap, Round, Victim
from tests.chaos.stack.verdict import Incident, Rows, Span, Spread

REPLAYS: Final = (Victim.REPLAY, Victim.HOLDER)


@dataclass(frozen=True)
class Kill:
    """Who was killed, and when, in seconds since the epoch."""

    victim: Victim
    at: float


@dataclass(frozen=True)
class Played:
    """A round and what came of it. Figures are seconds from the SIGKILL of the replay, or else of the first victim.

    `silence` lasts to the next message that came; `detected`, `relaunched` and `resumed` are the incident's, `healed`
    is when every part and every stream was well again. `load` is the machine's when they died. `reconciled` has the
    rows that each stream lacked before it was compared with its source; `rows` is the live view at the end, counted
    from the stream's first row on. `broken` says which promises were not kept, in words.
    """

    planned: Round
    kills: list[Kill]
    silence: float | None = None
    detected: float | None = None
    relaunched: float | None = None
    resumed: float | None = None
    healed: float | None = None
    load: float | None = None
    incidents: list[Incident] = field(default_factory=list)
    reconciled: dict[str, int] = field(default_factory=dict)
    rows: dict[str, Rows] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Happened:
    """A mishap and what came of it. `seconds` is from its beginning to when its stream was well and all written down.

    `epochs` is by how much the stream's epoch rose meanwhile.
    """

    mishap: Mishap
    begin: float
    seconds: float = 0.0
    epochs: int = 0
    incidents: list[Incident] = field(default_factory=list)
    rows: Rows | None = None
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Calm:
    """Minutes in which nothing is to be relaunched: `watchdog_runs` looked again, `skipped` found nothing to repair."""

    span: Span
    triggerer_kills: int
    broker_pauses: list[Span]
    relaunches: int
    incidents: int
    watchdog_runs: int
    skipped: int
    rows: dict[str, Rows]


@dataclass(frozen=True)
class Pulse:
    """How many messages came in each second from `begin` on, in seconds since the epoch."""

    begin: float
    per_second: list[int]


@dataclass(frozen=True)
class Machine:
    """What it ran on; loads are the average runnable processes of a minute."""

    cores: int | None
    processor: str
    memory_gb: float
    python: str
    load_at_start: float
    load_at_end: float

    @classmethod
    def measured(cls, load_at_start: float) -> Machine:
        return cls(
            cores=os.cpu_count(),
            processor=_processor(),
            memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
            python=platform.python_version(),
            load_at_start=round(load_at_start, 2),
            load_at_end=round(os.getloadavg()[0], 2),
        )


@dataclass(frozen=True)
class Summary:
    """Silences by who was killed: the replay `alone`, it or the pair `together` with something else, the holder of a
    pair whose `standby` took over."""

    alone: Spread
    together: Spread
    standby: Spread
    incidents: int
    false_relaunches: int

    @classmethod
    def of(cls, rounds: list[Played], calm: Calm | None) -> Summary:
        kinds: dict[str, list[float]] = {"alone": [], "together": [], "standby": []}
        for each in rounds:
            if each.silence is not None:
                kinds[kind_of(each.planned)].append(each.silence)
        return cls(
            **{kind: Spread.of(seconds) for kind, seconds in kinds.items()},
            incidents=sum(len(each.incidents) for each in rounds),
            false_relaunches=calm.relaunches if calm else 0,
        )


@dataclass(frozen=True)
class Result:
    """The document; all times are seconds since the epoch."""

    started: float
    ended: float
    seed: int
    kept: bool
    summary: Summary
    machine: Machine
    broken: list[str]
    calm: Calm | None
    rounds: list[Played]
    mishaps: list[Happened]
    signal: dict[str, Pulse]

    def write(self, file: Path) -> None:
        """As JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def kind_of(planned: Round) -> str:
    """`alone`, `standby` or `together`."""
    if len(planned.victims) > 1:
        return "together"
    return "standby" if planned.victims == (Victim.HOLDER,) else "alone"


def _processor() -> str:
    with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
