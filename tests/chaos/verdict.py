"""What was promised, held against what arrived: pure, from a round's plan, its rows, its breaks and its messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import ceil
from typing import Final

import numpy as np
import orjson

from rejeu.message import MAX_REQUEST_MESSAGES
from rejeu.replay.send.publisher import WINDOW
from rejeu.state import LOCAL
from tests.chaos.collector import Got
from tests.chaos.faults import Break
from tests.chaos.plan import Fault, Plan
from tests.chaos.rows import Row

STALL_SECONDS: Final = 0.05
"""How long two busy cores may keep a sender from sending: what falls due meanwhile travels in one batch."""
SAVE_SECONDS: Final = 0.05
"""How long they may take to write a checkpoint, which saves what was reached when the writing began."""
TAKEOVER_SECONDS: Final = 2.0
EARLY_SECONDS: Final = 1.0
"""By how much the first row may have been late, by which all others are measured."""
UNNOTICED_SECONDS: Final = 2.0
"""By how much rows may be late of a replay that only its clock or a slow store bothers."""
RETURN_SECONDS: Final = 3.0
"""How long after its store is back a replay may take until it publishes again."""


@dataclass(frozen=True)
class Verdict:
    """The figures of a round; `broken` says which promises were not kept, in words.

    `strange` and `spoilt` rows are not in the source, or not as they are there. `doubles` are messages beyond the first
    of each row, `allowed` how many of them the breaks may have made. `misordered` rows came behind a later one of their
    key, which only ordering keys forbid; `overtaken` is by how many rows one was published too late. `early` and `late`
    are by how many seconds one was at most, where there is a pace. `backward` are
    messages of an epoch that came after one of a later epoch, `woken` those of a paused holder after it woke up.
    `takeovers` has the seconds from killing or pausing a holder to the next message where somebody stood by, `silences`
    those of the other breaks, and `unbroken` says how many of all nobody ended.
    """

    rows: int
    messages: int
    rate: float
    lost: int
    strange: int
    spoilt: int
    doubles: int
    allowed: int
    misordered: int
    overtaken: int
    early: float
    late: float
    backward: int
    woken: int
    takeovers: list[float]
    silences: list[float]
    unbroken: int
    broken: list[str] = field(default_factory=list)


def judge(plan: Plan, rows: Mapping[str, Row], breaks: Sequence[Break], got: Sequence[Got]) -> Verdict:
    """Hold the promises against what arrived. The broker's own redeliveries, which keep their id, are no messages."""
    messages = list({each.message_id: each for each in got}.values())
    firsts = _firsts(messages)
    known = [each for each in firsts if each.row_id in rows]
    silences = {each: _silence(messages, each) for each in breaks}
    ended = {each: found for each, found in silences.items() if found is not None}
    delays = _delays(plan, known, rows)
    verdict = Verdict(
        rows=len(rows),
        messages=len(messages),
        rate=round(plan.rate or _measured_rate(messages), 1),
        lost=len(rows) - len(known),
        strange=len(firsts) - len(known),
        spoilt=_spoilt(known, rows),
        doubles=len(messages) - len(firsts),
        allowed=_allowed(plan, messages, silences),
        misordered=_misordered(known, rows),
        overtaken=_overtaken(known, rows),
        early=-min(delays, default=0.0),
        late=max(delays, default=0.0),
        backward=_backward(messages),
        woken=sum(_after(messages, each.epoch, each.woke_us) for each in breaks if each.woke_us is not None),
        takeovers=[found for each, found in ended.items() if each.standby and each.abrupt],
        silences=[found for each, found in ended.items() if not (each.standby and each.abrupt)],
        unbroken=len(breaks) - len(ended),
    )
    return replace(verdict, broken=_broken(plan, verdict))


def in_flight(rate: int | None) -> int:
    """How many rows may be sent and not acknowledged at a time, at most."""
    a_batch = MAX_REQUEST_MESSAGES if rate is None else min(MAX_REQUEST_MESSAGES, ceil(rate * STALL_SECONDS))
    return WINDOW * a_batch


def _broken(plan: Plan, found: Verdict) -> list[str]:
    under_way, most, most_late = in_flight(plan.rate), in_flight(None), _most_late(plan)
    broken = {
        f"{found.lost:,} rows lost": found.lost,
        f"{found.strange:,} rows that are not in the source": found.strange,
        f"{found.spoilt:,} rows are not as in the source": found.spoilt,
        f"{found.doubles:,} doubles, {found.allowed:,} allowed": found.doubles > found.allowed,
        f"{found.misordered:,} rows behind later ones of their key": plan.ordered and found.misordered,
        f"a row came {found.overtaken:,} rows late, {most:,} allowed": not plan.ordered and found.overtaken > most,
        f"a row came {found.early:.1f} s before it was due": found.early > EARLY_SECONDS,
        f"a row came {found.late:.1f} s late, {most_late or 0:g} s allowed": most_late and found.late > most_late,
        f"{found.backward:,} messages of an epoch that was over, {under_way:,} allowed": found.backward > under_way,
        f"{found.woken:,} messages after the holder woke up, {under_way:,} allowed": found.woken > under_way,
        f"{found.unbroken} silences that nobody ended": found.unbroken,
    }
    return [words for words, is_so in broken.items() if is_so]


def _most_late(plan: Plan) -> float | None:
    """How many seconds late a row may be where nothing but the state store, or a clock, holds it back."""
    if plan.fault in (Fault.CLOCKS, Fault.STORE_SLOW):
        return UNNOTICED_SECONDS
    return plan.outage + RETURN_SECONDS if plan.fault in (Fault.STORE_AWAY, Fault.DISK_FULL) else None


def _firsts(messages: Sequence[Got]) -> list[Got]:
    """Of each row the first one, in order of delivery: what a subscriber keeps that removes doubles by their ids."""
    firsts: dict[str, Got] = {}
    for each in messages:
        firsts.setdefault(each.row_id, each)
    return list(firsts.values())


def _allowed(plan: Plan, messages: Sequence[Got], silences: Mapping[Break, float | None]) -> int:
    """How many doubles the breaks may have made: what was reached since the last checkpoint, and what was under way."""
    if plan.fault is Fault.CUT:
        return in_flight(plan.rate)
    seconds = LOCAL.checkpoint_seconds + SAVE_SECONDS
    allowed, held_back = 0.0, 0.0
    for each, silence in silences.items():
        if each.abrupt:
            # What fell due in the silence before was sent at once, behind it.
            reached = plan.rate * (seconds + held_back) if plan.rate else _most_within(messages, each.epoch, seconds)
            allowed += reached + in_flight(plan.rate)
        held_back = silence or 0.0
    return ceil(allowed)


def _most_within(messages: Sequence[Got], epoch: int, seconds: float) -> int:
    """How many messages of the epoch were published within any time so long: the rate, where there is no pace."""
    times = np.sort([each.published_us for each in messages if each.epoch == epoch])
    return int((np.searchsorted(times, times + seconds * 1e6) - np.arange(len(times))).max(initial=0))


def _measured_rate(messages: Sequence[Got]) -> float:
    """Rows a second under the first epoch."""
    times = [each.published_us for each in messages if each.epoch == 1]
    return len(times) / max(1e-3, (max(times) - min(times)) / 1e6) if times else 0.0


def _spoilt(known: Sequence[Got], rows: Mapping[str, Row]) -> int:
    bodies = ((orjson.loads(each.data), rows[each.row_id]) for each in known)
    return sum((body["n"], body["symbol"]) != (row.n, row.symbol) for body, row in bodies)


def _misordered(known: Sequence[Got], rows: Mapping[str, Row]) -> int:
    """Rows that were first delivered behind a later one of their key."""
    places: dict[str, list[int]] = {}
    for each in known:
        places.setdefault(rows[each.row_id].symbol, []).append(rows[each.row_id].place)
    return sum(after < before for own in places.values() for before, after in pairwise(own))


def _overtaken(known: Sequence[Got], rows: Mapping[str, Row]) -> int:
    """By how many rows one was published too late: without ordering keys requests overtake each other."""
    furthest = most = 0
    for each in sorted(known, key=lambda each: each.published_us):
        furthest = max(furthest, rows[each.row_id].place)
        most = max(most, furthest - rows[each.row_id].place)
    return most


def _delays(plan: Plan, known: Sequence[Got], rows: Mapping[str, Row]) -> list[float]:
    """By how many seconds each row came later than due; earlier where negative. The first one was on time."""
    if plan.rate is None or not known:
        return []
    first_us = min(each.published_us for each in known)
    first = min(rows[each.row_id].n for each in known)
    return [
        round((each.published_us - first_us) / 1e6 - (rows[each.row_id].n - first) / plan.rate, 3) for each in known
    ]


def _backward(messages: Sequence[Got]) -> int:
    begun: dict[int, int] = {}
    for each in messages:
        begun[each.epoch] = min(begun.get(each.epoch, each.published_us), each.published_us)
    return sum(
        any(epoch > each.epoch and at_us < each.published_us for epoch, at_us in begun.items()) for each in messages
    )


def _after(messages: Sequence[Got], epoch: int, at_us: int) -> int:
    return sum(each.epoch == epoch and each.published_us > at_us for each in messages)


def _silence(messages: Sequence[Got], broken: Break) -> float | None:
    """Seconds from the break to the first message of whoever came next; None where nobody did."""
    first = min((each.published_us for each in messages if each.epoch > broken.epoch), default=None)
    return None if first is None else round((first - broken.at_us) / 1e6, 3)
