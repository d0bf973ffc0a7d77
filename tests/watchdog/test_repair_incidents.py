"""Incidents from their end to their row: which are over, what is known of them, and what is then forgotten."""

from datetime import timedelta

import pytest

from rejeu.errors import NothingToRepairError
from rejeu.ports import EndedBy, Signal, Verdict
from rejeu.spec.model import StreamSpec
from rejeu.state.model import End, Incident, Status
from rejeu.state.stream import announce, mark_unwanted, mark_wanted
from rejeu.timeline import parse_instant
from rejeu.watchdog.incidents import OVER, Over, mark_recorded, row_of
from rejeu.watchdog.repair import Seen, note, note_loss
from tests.watchdog.watched import AGAIN, LEASE_SECONDS, SILENCE_SECONDS, STREAM, Watched, place

END = End(at=parse_instant("2026-11-20T12:00:10Z"), by=EndedBy.SIGNAL)


SPEC = StreamSpec.model_validate(
    {
        "stream": STREAM,
        "event_time": "at",
        "live": {"topic": "rates", "table": "a.b"},
        "replay": {"source": {"table": "a.history"}},
    }
)


@pytest.fixture
def repaired(stream: Watched) -> Incident:
    """A silence whose replay was just relaunched."""
    stream.publishes(place(7))
    stream.pass_()
    return stream.claim("run-1")[1]


# Over


def test_the_signal_is_back_where_it_flows_rests_or_is_not_to_come() -> None:
    assert sorted(OVER) == sorted([Signal.FLOWING, Signal.QUIET, Signal.FINISHED, Signal.STOPPED])


@pytest.mark.parametrize("signal", sorted(set(Signal) - OVER))
def test_an_incident_is_open_while_the_signal_is_waited_for(
    stream: Watched, repaired: Incident, signal: Signal
) -> None:
    assert stream.ended(Verdict(signal)) == []


def test_an_incident_ends_with_the_first_row_that_came_and_what_was_owed(stream: Watched, repaired: Incident) -> None:
    stream.pass_(2)
    stream.publishes(place(8), owed=118)
    end = End(at=stream.now, by=EndedBy.SIGNAL, rows_owed=118)
    assert stream.ended() == [Over(repaired.model_copy(update={"end": end}), end)]


def test_an_earlier_incident_is_over_while_the_next_one_lasts(stream: Watched, repaired: Incident) -> None:
    stream.publishes(place(8), owed=118)
    resumed_at = stream.now
    stream.pass_()
    stream.claim("run-2")
    (first,) = stream.ended()
    assert (first.incident.dag_run_id, first.end.at, first.end.rows_owed) == ("run-1", resumed_at, 118)


def test_each_of_several_incidents_has_the_end_that_was_its_own(stream: Watched, repaired: Incident) -> None:
    ends = []
    for number in (1, 2):
        stream.publishes(place(7 + number), owed=number)
        ends.append((stream.now, number))
        if number == 1:
            stream.pass_()
            stream.claim("run-2")
            stream.pass_(1)
    assert [(each.end.at, each.end.rows_owed) for each in stream.ended()] == ends


def test_an_incident_keeps_its_end_when_the_next_replay_comes_before_it_is_recorded(
    stream: Watched, repaired: Incident
) -> None:
    stream.publishes(place(8), owed=118).release(Status.STOPPED)
    resumed_at = stream.now
    stream.pass_()
    stream.publishes(place(9), owed=3)
    (over,) = stream.ended()
    assert (over.end.at, over.end.rows_owed) == (resumed_at, 118)


# Over before a row came


@pytest.mark.parametrize("signal", [Signal.FLOWING, Signal.QUIET])
def test_a_silence_is_open_until_the_relaunched_replay_holds_the_lease(
    stream: Watched, repaired: Incident, signal: Signal
) -> None:
    assert stream.ended(Verdict(signal, last_seen=repaired.lost_at)) == []


@pytest.mark.parametrize("signal", [Signal.FLOWING, Signal.QUIET])
def test_a_silence_is_open_while_the_relaunched_replay_has_a_row_that_is_due(
    stream: Watched, repaired: Incident, signal: Signal
) -> None:
    stream.is_back(next_due=stream.now)
    stream.pass_(1)
    assert stream.ended(Verdict(signal, last_seen=repaired.lost_at)) == []


@pytest.mark.parametrize("signal", [Signal.FLOWING, Signal.QUIET])
def test_a_silence_whose_replay_finds_nothing_due_ended_when_it_took_the_lease(
    stream: Watched, repaired: Incident, signal: Signal
) -> None:
    stream.pass_(2)
    back_at = stream.now
    stream.is_back(next_due=stream.now + timedelta(minutes=1))
    stream.pass_(1)
    (over,) = stream.ended(Verdict(signal, last_seen=repaired.lost_at))
    assert over.end == End(at=back_at, by=EndedBy.NOTHING_DUE, rows_owed=0)


def test_a_replay_that_knows_of_no_next_row_is_given_as_long_as_makes_a_silence(
    stream: Watched, repaired: Incident
) -> None:
    back_at = stream.now
    lease = stream.is_back(next_due=None)
    for _ in range(int(SILENCE_SECONDS)):
        assert stream.ended(Verdict(Signal.QUIET)) == []
        stream.pass_(1)
        lease.checkpoint(next_due=None)
    (over,) = stream.ended(Verdict(Signal.QUIET))
    assert (over.end.at, over.end.by) == (back_at, EndedBy.NOTHING_DUE)


def test_a_replay_that_died_again_has_ended_no_silence_however_quiet_it_is(stream: Watched, repaired: Incident) -> None:
    stream.is_back(next_due=stream.now + timedelta(minutes=1))
    stream.pass_(LEASE_SECONDS + SILENCE_SECONDS)
    assert stream.look().signal is Signal.QUIET
    assert stream.ended() == []


def test_a_silence_whose_replay_finds_the_end_of_its_source_ended_with_that(
    stream: Watched, repaired: Incident
) -> None:
    lease = stream.is_back(next_due=None)
    stream.pass_(1)
    lease.release(Status.FINISHED)
    finished_at = stream.now
    stream.pass_(100)
    (over,) = stream.ended()
    assert over.end == End(at=finished_at, by=EndedBy.FINISHED, rows_owed=0)


def test_a_silence_that_a_person_ended_ends_with_the_stop(stream: Watched, repaired: Incident) -> None:
    stream.pass_(2)
    mark_unwanted(stream.store, STREAM)
    stopped_at = stream.now
    stream.pass_(100)
    mark_unwanted(stream.store, STREAM)
    (over,) = stream.ended()
    assert over.end == End(at=stopped_at, by=EndedBy.STOP)


def test_a_stop_after_the_signal_came_back_does_not_end_the_silence(stream: Watched, repaired: Incident) -> None:
    stream.publishes(place(8), owed=118)
    resumed_at = stream.now
    stream.pass_(2)
    mark_unwanted(stream.store, STREAM)
    (over,) = stream.ended()
    assert over.end == End(at=resumed_at, by=EndedBy.SIGNAL, rows_owed=118)


def test_a_silence_after_a_stop_and_a_new_start_is_another_one(stream: Watched, repaired: Incident) -> None:
    stream.pass_(2)
    mark_unwanted(stream.store, STREAM)
    stopped_at = stream.now
    stream.pass_(2)
    announce(stream.store, AGAIN)
    stream.is_back(next_due=stream.now)
    stream.pass_()
    stream.claim("run-2")
    before, after = stream.state.incidents
    assert (before.end, before.dag_run_id) == (End(at=stopped_at, by=EndedBy.STOP), "run-1")
    assert (after.end, after.dag_run_id, after.recorded) == (None, "run-2", False)
    assert after.lost_at > before.lost_at


def test_a_witness_that_sees_rows_after_the_relaunch_ends_the_silence(stream: Watched, repaired: Incident) -> None:
    stream.pass_(2)
    (over,) = stream.ended(Verdict(Signal.FLOWING, last_seen=stream.now, probe="heartbeat+tap"))
    assert over.end == End(at=stream.now, by=EndedBy.SIGNAL)


@pytest.mark.parametrize("signal", sorted(OVER))
def test_nothing_that_is_recorded_is_without_an_end(stream: Watched, repaired: Incident, signal: Signal) -> None:
    stream.is_back(next_due=None)
    stream.pass_(1)
    assert all(each.end.at >= repaired.lost_at for each in stream.ended(Verdict(signal)))


def test_a_replay_that_has_not_read_its_source_ends_no_silence(stream: Watched, repaired: Incident) -> None:
    stream.is_back(next_due=None).checkpoint(ready=False)
    stream.pass_(SILENCE_SECONDS - LEASE_SECONDS / 2)
    assert stream.ended(Verdict(Signal.QUIET)) == []


# Rows that went where nobody reads


CUT_OFF = "the subscription was cut off"


def test_rows_that_were_lost_meanwhile_are_told_with_the_silence_that_lasts(
    stream: Watched, repaired: Incident
) -> None:
    for _ in range(2):
        assert note_loss(stream.store, STREAM, CUT_OFF, "run-1") == repaired.model_copy(
            update={"lossy": True, "cause": f"{repaired.cause}; {CUT_OFF}"}
        )
    stream.publishes(place(8))
    (over,) = stream.ended()
    assert row_of(over, SPEC, stream.state, "process").rows_lost is None


def test_rows_that_were_lost_without_a_silence_are_an_incident_that_is_over(stream: Watched) -> None:
    stream.publishes(place(7))
    note_loss(stream.store, STREAM, CUT_OFF, "run-1")
    (over,) = stream.ended()
    row = row_of(over, SPEC, stream.state, "process")
    assert (row.cause, row.rows_lost, row.ended_by) == (CUT_OFF, None, EndedBy.MENDED)


# Recorded


def test_what_is_recorded_is_not_over_a_second_time(stream: Watched, repaired: Incident) -> None:
    stream.publishes(place(8))
    mark_recorded(stream.store, STREAM, stream.ended())
    assert stream.ended() == []


def test_the_last_incident_is_remembered_and_the_others_are_forgotten(stream: Watched, repaired: Incident) -> None:
    stream.publishes(place(8))
    stream.pass_()
    stream.claim("run-2")
    stream.publishes(place(9))
    mark_recorded(stream.store, STREAM, stream.ended())
    assert [(each.dag_run_id, each.recorded) for each in stream.state.incidents] == [("run-2", True)]


def test_an_incident_that_begins_while_others_are_recorded_is_still_to_be(stream: Watched, repaired: Incident) -> None:
    stream.publishes(place(8))
    recorded = stream.ended()
    stream.pass_()
    stream.store.between = lambda: stream.claim("run-2")
    mark_recorded(stream.store, STREAM, recorded)
    assert [(each.dag_run_id, each.recorded) for each in stream.state.incidents] == [("run-2", False)]


def test_what_comes_after_a_recorded_incident_is_recorded_too_and_goes_on_counting(
    stream: Watched, repaired: Incident
) -> None:
    mark_recorded(stream.store, STREAM, [Over(repaired, END)])
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
    assert stream.ended(back) == [Over(incident, End(at=stream.now, by=EndedBy.SIGNAL))]


def test_the_next_silence_of_somebody_else_is_an_incident_of_its_own(stream: Watched) -> None:
    noted = note(stream.store, STREAM, seen(stream))
    mark_recorded(stream.store, STREAM, [Over(noted, End(at=stream.now, by=EndedBy.SIGNAL))])
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
    ended = noted.model_copy(update={"end": End(at=relaunched.lost_at, by=EndedBy.NEXT)})
    assert stream.state.incidents == (ended, relaunched)


def test_a_replay_that_dies_where_nothing_arrives_is_relaunched_at_once(stream: Watched) -> None:
    stream.publishes(place(7))
    note(stream.store, STREAM, seen(stream))
    stream.pass_()
    assert stream.claim("run-2")[1].attempts == 1
