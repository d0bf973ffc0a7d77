"""Incidents from their end to their row: which are over, what is known of them, and what is then forgotten."""

import pytest

from rejeu.errors import NothingToRepairError
from rejeu.ports import Signal, Verdict
from rejeu.state.model import Incident
from rejeu.state.stream import mark_unwanted, mark_wanted
from rejeu.watchdog.repair import OVER, Seen, ended, mark_recorded, note
from tests.watchdog.watched import STREAM, Watched, place


@pytest.fixture
def repaired(stream: Watched) -> Incident:
    """A silence whose replay was just relaunched."""
    stream.publishes(place(7))
    stream.pass_()
    return stream.claim("run-1")[1]


# Over


@pytest.mark.parametrize("signal", Signal)
def test_an_incident_is_over_once_the_signal_is_back_or_nobody_waits_for_it(
    stream: Watched, repaired: Incident, signal: Signal
) -> None:
    found = ended(stream.state, Verdict(signal))
    assert len(found) == (1 if signal in OVER else 0)


def test_the_signal_is_back_where_it_flows_rests_or_is_not_to_come() -> None:
    assert sorted(OVER) == sorted([Signal.FLOWING, Signal.QUIET, Signal.FINISHED, Signal.STOPPED])


def test_an_incident_ends_with_the_first_row_that_came_and_what_was_owed(stream: Watched, repaired: Incident) -> None:
    stream.pass_(2)
    stream.publishes(place(8), owed=118)
    assert ended(stream.state, stream.look()) == [
        repaired.model_copy(update={"resumed_at": stream.now, "rows_owed": 118})
    ]


def test_an_earlier_incident_is_over_while_the_next_one_lasts(stream: Watched, repaired: Incident) -> None:
    stream.publishes(place(8), owed=118)
    resumed_at = stream.now
    stream.pass_()
    stream.claim("run-2")
    (first,) = ended(stream.state, stream.look())
    assert (first.dag_run_id, first.resumed_at, first.rows_owed) == ("run-1", resumed_at, 118)


def test_each_of_several_incidents_has_the_end_that_was_its_own(stream: Watched, repaired: Incident) -> None:
    ends = []
    for number in (1, 2):
        stream.publishes(place(7 + number), owed=number)
        ends.append((stream.now, number))
        if number == 1:
            stream.pass_()
            stream.claim("run-2")
            stream.pass_(1)
    found = ended(stream.state, stream.look())
    assert [(each.resumed_at, each.rows_owed) for each in found] == ends


def test_a_silence_that_a_person_ended_never_came_to_its_end(stream: Watched, repaired: Incident) -> None:
    mark_unwanted(stream.store, STREAM)
    (incident,) = ended(stream.state, stream.look())
    assert incident.resumed_at is None


# Recorded


def test_what_is_recorded_is_not_over_a_second_time(stream: Watched, repaired: Incident) -> None:
    stream.publishes(place(8))
    mark_recorded(stream.store, STREAM, ended(stream.state, stream.look()))
    assert ended(stream.state, stream.look()) == []


def test_the_last_incident_is_remembered_and_the_others_are_forgotten(stream: Watched, repaired: Incident) -> None:
    stream.publishes(place(8))
    stream.pass_()
    stream.claim("run-2")
    stream.publishes(place(9))
    mark_recorded(stream.store, STREAM, ended(stream.state, stream.look()))
    assert [(each.dag_run_id, each.recorded) for each in stream.state.incidents] == [("run-2", True)]


def test_an_incident_that_begins_while_others_are_recorded_is_still_to_be(stream: Watched, repaired: Incident) -> None:
    stream.publishes(place(8))
    recorded = ended(stream.state, stream.look())
    stream.pass_()
    stream.store.between = lambda: stream.claim("run-2")
    mark_recorded(stream.store, STREAM, recorded)
    assert [(each.dag_run_id, each.recorded) for each in stream.state.incidents] == [("run-2", False)]


def test_what_comes_after_a_recorded_incident_is_recorded_too_and_goes_on_counting(
    stream: Watched, repaired: Incident
) -> None:
    mark_recorded(stream.store, STREAM, [repaired])
    stream.fails(place(7))
    stream.pass_()
    _, incident = stream.claim("run-2")
    assert (incident.dag_run_id, incident.attempts, incident.recorded) == ("run-2", 2, False)


# That no relaunch can end


def seen(stream: Watched, run: str = "run-1") -> Seen:
    """What the tap sees of a stream that nobody here publishes."""
    verdict = Verdict(Signal.SILENT, lost_at=stream.now, probe="tap", detail="nothing arrived")
    return Seen(verdict, stream.now, run)


def test_a_silence_that_nobody_here_can_repair_is_written_down(stream: Watched) -> None:
    mark_wanted(stream.store, STREAM)
    incident = note(stream.store, STREAM, seen(stream))
    assert incident == Incident(
        lost_at=stream.now,
        detected_at=stream.now,
        cause="nothing arrived",
        probe="tap",
        dag_run_id="run-1",
        attempts=0,
    )
    assert stream.state.incidents == (incident,)


def test_it_is_written_down_once_however_often_it_is_seen(stream: Watched) -> None:
    note(stream.store, STREAM, seen(stream))
    stream.pass_()
    with pytest.raises(NothingToRepairError, match="clicks: silent, as is known since 2026-11-20T12:00:00"):
        note(stream.store, STREAM, seen(stream, "run-2"))
    assert [each.dag_run_id for each in stream.state.incidents] == ["run-1"]


def test_of_two_that_see_it_at_once_one_writes_it_down(stream: Watched) -> None:
    slower = seen(stream, "slower")
    stream.store.between = lambda: note(stream.store, STREAM, seen(stream, "quicker"))
    with pytest.raises(NothingToRepairError):
        note(stream.store, STREAM, slower)
    assert [each.dag_run_id for each in stream.state.incidents] == ["quicker"]


def test_it_ends_when_the_probe_last_saw_a_message(stream: Watched) -> None:
    incident = note(stream.store, STREAM, seen(stream))
    stream.pass_()
    back = Verdict(Signal.FLOWING, last_seen=stream.now, probe="tap")
    assert ended(stream.state, back) == [incident.model_copy(update={"resumed_at": stream.now})]


def test_the_next_silence_of_somebody_else_is_an_incident_of_its_own(stream: Watched) -> None:
    mark_recorded(stream.store, STREAM, [note(stream.store, STREAM, seen(stream))])
    stream.pass_()
    note(stream.store, STREAM, seen(stream, "run-2"))
    assert [each.dag_run_id for each in stream.state.incidents] == ["run-2"]


def test_a_silence_that_no_relaunch_was_to_end_is_not_ended_by_one_that_was_before(stream: Watched) -> None:
    stream.publishes(place(7))
    stream.pass_()
    noted = note(stream.store, STREAM, seen(stream))
    stream.pass_(1)
    stream.publishes(place(8))
    stream.pass_()
    relaunched = stream.claim("run-2")[1]
    assert stream.state.incidents == (noted, relaunched)


def test_a_replay_that_dies_where_nothing_arrives_is_relaunched_at_once(stream: Watched) -> None:
    stream.publishes(place(7))
    note(stream.store, STREAM, seen(stream))
    stream.pass_()
    assert stream.claim("run-2")[1].attempts == 1
