"""Relaunches that do not help: ever further apart, until the place and the last error are named and a person called."""

from datetime import timedelta

import pytest

from rejeu.errors import GivenUpError, NothingToRepairError, StateConflictError
from rejeu.ports import EndedBy, Signal
from rejeu.state.lease import Lease, update_state
from rejeu.state.model import End
from rejeu.state.stream import announce
from rejeu.watchdog.repair import LONGEST_DELAY
from tests.watchdog.watched import AGAIN, LEASE_SECONDS, STREAM, Watched, place

ERROR = "row 8 is larger than Pub/Sub takes"


def crash_loop(stream: Watched, relaunches: int) -> None:
    """A row that ends every replay, met by the first one and by so many relaunches."""
    stream.fails(place(7), ERROR)
    stream.pass_()
    for number in range(relaunches):
        stream.claim(f"run-{number}", attempts=relaunches)
        stream.fails(place(7), ERROR)
        stream.pass_(LONGEST_DELAY.total_seconds())


def test_a_relaunch_that_left_the_stream_where_it_was_is_the_same_incident(stream: Watched) -> None:
    crash_loop(stream, 1)
    before = stream.state.incidents[-1]
    _, incident = stream.claim("run-2")
    assert stream.state.incidents == (incident,)
    assert (incident.lost_at, incident.detected_at, incident.dag_run_id) == (
        before.lost_at,
        before.detected_at,
        before.dag_run_id,
    )
    assert (incident.attempts, incident.relaunched_at) == (2, stream.now)


def test_relaunches_that_do_not_help_come_ever_later_and_at_last_every_five_minutes(stream: Watched) -> None:
    stream.fails(place(7), ERROR)
    stream.pass_()
    delays = []
    for number in range(8):
        _, incident = stream.claim(f"run-{number}", attempts=100)
        assert incident.retry_at is not None
        delays.append((incident.retry_at - stream.now).total_seconds())
        stream.fails(place(7), ERROR)
        stream.pass_(delays[-1])
    assert delays == [5, 10, 20, 40, 80, 160, 300, 300]


def test_before_its_time_there_is_no_further_relaunch(stream: Watched) -> None:
    stream.fails(place(7), ERROR)
    stream.pass_()
    _, incident = stream.claim()
    stream.fails(place(7), ERROR)
    stream.pass_(4.9)
    before = stream.state
    with pytest.raises(NothingToRepairError, match="waiting: the last relaunch did not help"):
        stream.claim("run-2")
    assert stream.state == before
    assert stream.look().look_again == incident.retry_at


def test_a_further_relaunch_whose_answer_was_lost_is_made_once(stream: Watched) -> None:
    crash_loop(stream, 1)
    epoch = stream.state.epoch
    stream.store.lost = StateConflictError
    _, incident = stream.claim("run-2")
    assert (stream.state.epoch, stream.state.incidents, incident.attempts) == (epoch + 1, (incident,), 2)


def test_after_so_many_relaunches_the_place_and_the_last_error_are_named(stream: Watched) -> None:
    crash_loop(stream, 3)
    epoch, relaunched_at = stream.state.epoch, stream.state.incidents[-1].relaunched_at
    with pytest.raises(GivenUpError) as caught:
        stream.claim("run-4", attempts=3)
    assert str(caught.value) == (
        "clicks: crash loop at 2021-05-01T00:00:07.000000Z: 3 relaunches did not get past it: "
        f"{ERROR}; mend the cause, then run clicks.live"
    )
    (incident,) = stream.state.incidents
    assert (incident.given_up, incident.attempts, incident.recorded) == (True, 3, False)
    assert incident.relaunched_at == relaunched_at
    assert stream.state.epoch == epoch, "nothing was relaunched"


def test_a_replay_that_dies_at_the_first_row_without_a_word_is_known_too(stream: Watched) -> None:
    stream.publishes(None)
    stream.pass_()
    stream.claim(attempts=1)
    stream.publishes(None)
    stream.pass_()
    with pytest.raises(GivenUpError, match=r"crash loop at the source's first row: .* it dies without a word: see its"):
        stream.claim("run-2", attempts=1)


def test_what_was_given_up_on_is_relaunched_no_more(stream: Watched) -> None:
    crash_loop(stream, 2)
    with pytest.raises(GivenUpError):
        stream.claim("run-3", attempts=2)
    stream.pass_(3600)
    assert stream.look().signal is Signal.GIVEN_UP
    before = stream.state
    with pytest.raises(NothingToRepairError, match="given up"):
        stream.claim("run-4", attempts=2)
    assert stream.state == before


def test_giving_up_is_told_also_where_the_answer_was_lost(stream: Watched) -> None:
    crash_loop(stream, 2)
    stream.store.lost = StateConflictError
    with pytest.raises(GivenUpError):
        stream.claim("run-3", attempts=2)
    (incident,) = stream.state.incidents
    assert (incident.given_up, incident.attempts) == (True, 2)


# What ends it


def test_a_person_who_starts_the_stream_again_is_given_as_many_relaunches_anew(stream: Watched) -> None:
    crash_loop(stream, 2)
    with pytest.raises(GivenUpError):
        stream.claim("run-3", attempts=2)
    announce(stream.store, AGAIN)
    stream.fails(place(7), ERROR)
    assert stream.look().signal is Signal.SILENT, "it need not wait for the next relaunch either"
    _, incident = stream.claim("run-4", attempts=2)
    assert (incident.attempts, incident.given_up) == (1, False)
    assert incident.retry_at == stream.now + timedelta(seconds=5)


def test_a_start_elsewhere_has_troubles_of_its_own(stream: Watched) -> None:
    crash_loop(stream, 2)
    Lease.acquire(stream.store, STREAM, "by hand", LEASE_SECONDS, cursor=place(7), since=place(7)).release(
        stream.state.status, ERROR
    )
    _, incident = stream.claim("run-9")
    assert (incident.attempts, incident.since, incident.dag_run_id) == (1, place(7), "run-9")


def test_a_relaunch_that_got_further_has_helped(stream: Watched) -> None:
    crash_loop(stream, 2)
    stream.fails(place(9), "row 10 is larger than Pub/Sub takes")
    stream.pass_()
    _, incident = stream.claim("run-9", attempts=2)
    assert (incident.attempts, incident.cursor, incident.dag_run_id) == (1, place(9), "run-9")
    assert incident.cause == "the replay failed: row 10 is larger than Pub/Sub takes"


def test_a_relaunch_that_helped_is_remembered_as_the_end_of_its_incident(stream: Watched) -> None:
    crash_loop(stream, 0)
    first = stream.claim("run-1")[1]
    stream.pass_(2)
    resumed_at = stream.now
    stream.publishes(place(8), owed=118)
    stream.pass_()
    second = stream.claim("run-2")[1]
    assert stream.state.incidents == (
        first.model_copy(update={"end": End(at=resumed_at, by=EndedBy.SIGNAL, rows_owed=118)}),
        second,
    )


def test_an_incident_keeps_its_end_through_all_that_follow(stream: Watched) -> None:
    crash_loop(stream, 0)
    for number in range(1, 4):
        stream.claim(f"run-{number}")
        stream.pass_(2)
        stream.publishes(place(7 + number), owed=number)
        stream.pass_()
    stream.claim("run-4")
    ends = [(each.dag_run_id, each.end and each.end.rows_owed) for each in stream.state.incidents]
    assert ends == [("run-1", 1), ("run-2", 2), ("run-3", 3), ("run-4", None)]
    assert len({each.end and each.end.at for each in stream.state.incidents}) == 4


def test_a_recorded_incident_goes_with_the_next_one(stream: Watched) -> None:
    crash_loop(stream, 0)
    stream.claim("run-1")
    recorded = tuple(each.model_copy(update={"recorded": True}) for each in stream.state.incidents)
    update_state(stream.store, STREAM, lambda state: state.model_copy(update={"incidents": recorded}))
    stream.publishes(place(8))
    stream.pass_()
    stream.claim("run-2")
    assert [each.dag_run_id for each in stream.state.incidents] == ["run-2"]
