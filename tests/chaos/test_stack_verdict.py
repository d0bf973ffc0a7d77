"""What is a silence, which incidents belong to it, and when a promise counts as broken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.chaos.stack.calm import broken_calm
from tests.chaos.stack.mishaps import broken_by
from tests.chaos.stack.plan import Mishap, Round, Victim
from tests.chaos.stack.result import Calm, Happened, Kill, Played, Summary
from tests.chaos.stack.tap import Arrival
from tests.chaos.stack.verdict import (
    MARGIN_SECONDS,
    Incident,
    Rows,
    Span,
    Spread,
    broken_limits,
    silences,
    unfounded,
    unrecorded,
)

DUE = np.array([0.0, 1.0, 2.0, 3.0, 60.0, 61.0])


def arrivals(*times: float) -> list[Arrival]:
    """Row 0 at the first time, row 1 at the second, and so on."""
    return [Arrival(number, 1, at, at) for number, at in enumerate(times)]


def incident(lost_at: float, resumed_at: float) -> Incident:
    return Incident("single", lost_at, lost_at + 1, lost_at + 2, resumed_at, "it died")


def played(*victims: Victim, silence: float | None) -> Played:
    return Played(Round(0, victims, 0, 0, 0), [Kill(victims[0], 0.0)], silence=silence)


def test_rows_on_time_make_no_silence_however_far_apart_they_are_due() -> None:
    assert silences(DUE, arrivals(0.1, 1.1, 2.1, 3.1, 60.1, 61.1), 1) == []


def test_a_silence_lasts_from_the_first_row_that_did_not_come_to_the_next_that_came() -> None:
    assert silences(DUE, arrivals(0.1, 1.1, 9.0, 9.0, 60.1), 1) == [Span(2.0, 9.0)]


def test_what_comes_again_ends_no_silence() -> None:
    again = Arrival(1, 2, 5.0, 5.0)
    come = arrivals(0.1, 1.1, 9.0)
    assert silences(DUE, [*come[:2], again, come[2]], 1) == [Span(2.0, 9.0)]


def test_a_silence_needs_an_incident_unless_it_is_short_or_the_brokers_own() -> None:
    long, short = Span(10.0, 20.0), Span(30.0, 31.0 + MARGIN_SECONDS)
    assert unrecorded([long, short], [], [], limit=1) == [long]
    assert unrecorded([long], [incident(11.0, 19.0)], [], limit=1) == []
    assert unrecorded([long], [], [Span(5.0, 11.0)], limit=1) == []
    assert unrecorded([long], [incident(40.0, 41.0)], [Span(21.0, 22.0)], limit=1) == [long]


def test_an_incident_needs_a_silence_of_its_own() -> None:
    silence, here, later = Span(10.0, 20.0), incident(10.0, 20.0), incident(19.0, 20.0)
    assert unfounded([silence], [here]) == []
    assert unfounded([], [here]) == [here]
    assert unfounded([silence], [here, later]) == [later]
    assert unfounded([Span(0.0, 1.0), silence], [incident(0.0, 1.0), here]) == []


def test_the_limits_are_those_of_the_promise() -> None:
    good, slow = Spread(20, 5.0, 9.0, 14.0), Spread(20, 8.1, 15.1, 30.0)
    assert broken_limits(good, Spread(5, 1.4, 3.0, 3.0)) == []
    assert len(broken_limits(slow, Spread(5, 1.6, 3.0, 3.0))) == 3
    assert broken_limits(Spread.of([]), Spread.of([])) == []


def test_silences_are_told_apart_by_who_was_killed() -> None:
    rounds = [
        played(Victim.REPLAY, silence=4.0),
        played(Victim.REPLAY, silence=6.0),
        played(Victim.SCHEDULER, Victim.REPLAY, silence=20.0),
        played(Victim.HOLDER, silence=1.3),
        played(Victim.SCHEDULER, silence=None),
    ]
    told = Summary.of(rounds, None)
    assert told.alone == Spread(2, 5.0, 5.9, 6.0)
    assert (told.together.longest, told.standby.longest) == (20.0, 1.3)


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, 0),
        ({"relaunches": 1}, 1),
        ({"incidents": 2}, 1),
        ({"skipped": 3}, 1),
        ({"rows": {"gaps": Rows(100, 1, 0, 0)}}, 1),
    ],
)
def test_the_calm_is_calm_only_where_nothing_was_relaunched_and_no_row_is_wrong(
    changed: dict[str, object], wrong: int
) -> None:
    calm = {
        "span": Span(0.0, 900.0),
        "triggerer_kills": 1,
        "broker_pauses": [],
        "relaunches": 0,
        "incidents": 0,
        "watchdog_runs": 4,
        "skipped": 4,
        "rows": {"gaps": Rows(100, 0, 0, 0)},
    }
    assert len(broken_calm(Calm(**(calm | changed)))) == wrong  # type: ignore[arg-type]


@pytest.mark.parametrize("mishap", Mishap)
def test_a_mishap_breaks_a_promise_where_a_row_an_incident_or_an_epoch_is_not_as_it_must_be(mishap: Mishap) -> None:
    told = [incident(1.0, 2.0)] * mishap.incidents
    kept = Happened(mishap, 0.0, 30.0, mishap.epochs.start, told, Rows(100, 0, 0, 0))
    assert broken_by(kept) == []
    for changed in (
        {"rows": None},
        {"rows": Rows(100, 1, 0, 0)},
        {"rows": Rows(100, 0, 1, 0)},
        {"rows": Rows(100, 0, 0, 1)},
        {"epochs": mishap.epochs.stop},
        {"incidents": [*told, incident(3.0, 4.0)]},
    ):
        assert len(broken_by(replace(kept, **changed))) == 1  # type: ignore[arg-type]
