"""Who repairs a silence: one of all that see it, and nobody where it is over before the repair is written down."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from rejeu.errors import LeaseLostError, NothingToRepairError, StateConflictError, StateError
from rejeu.ports import Signal
from rejeu.state.lease import Lease
from rejeu.state.model import Incident, Status
from rejeu.state.stream import announce, mark_unwanted
from rejeu.watchdog.repair import FIRST_DELAY, claim
from tests.watchdog.watched import AGAIN, FIRST, GRACE_SECONDS, LEASE_SECONDS, SILENCE_SECONDS, STREAM, Watched, place


@pytest.fixture
def dead(stream: Watched) -> Lease:
    """A replay that reached a place and died, so long ago that its rows are missed."""
    lease = stream.publishes(place(7))
    stream.pass_()
    return lease


@pytest.mark.usefixtures("dead")
def test_who_repairs_relaunches_what_ran_at_its_cursor(stream: Watched) -> None:
    request, _ = stream.claim()
    assert request == AGAIN
    assert stream.state.announced == tuple(AGAIN.to_argv())


def test_a_replay_that_never_came_is_started_as_it_was_asked_for(stream: Watched) -> None:
    announce(stream.store, FIRST)
    stream.pass_(GRACE_SECONDS)
    request, incident = stream.claim()
    assert request == FIRST
    assert incident.cause.startswith("the replay was started and never came: ")


@pytest.mark.usefixtures("dead")
def test_the_incident_is_written_down_before_anything_is_started(stream: Watched) -> None:
    died = stream.now - timedelta(seconds=SILENCE_SECONDS)
    detected_at = stream.now
    seen = stream.seen()
    stream.pass_(1)
    _, incident = claim(stream.store, STREAM, stream.probe, seen, 3)
    assert incident == Incident(
        lost_at=died,
        detected_at=detected_at,
        relaunched_at=stream.now,
        cause="the replay died: its lease ran out: epoch 1 was last heard of at 2026-11-20T12:00:00.000000Z, "
        "and then no more",
        probe="heartbeat",
        dag_run_id="run-1",
        cursor=place(7),
        retry_at=stream.now + FIRST_DELAY,
    )
    assert stream.state.incidents == (incident,)


@pytest.mark.usefixtures("dead")
def test_what_was_detected_before_the_silence_began_was_another_one(stream: Watched) -> None:
    seen = stream.seen()
    long_ago = type(seen)(seen.verdict, stream.now - timedelta(hours=1), "run-1")
    assert claim(stream.store, STREAM, stream.probe, long_ago, 3)[1].detected_at == stream.now


def test_the_dead_replay_can_save_nothing_and_its_successor_need_not_wait(stream: Watched, dead: Lease) -> None:
    stream.claim()
    with pytest.raises(LeaseLostError, match="fenced off"):
        dead.checkpoint()
    assert Lease.acquire(stream.store, STREAM, "host:2", LEASE_SECONDS).epoch == dead.epoch + 2


def test_a_repaired_stream_is_starting_for_whoever_looks_next(stream: Watched) -> None:
    stream.fails(place(7), "the topic is gone")
    stream.pass_()
    stream.claim()
    assert (stream.state.status, stream.state.error, stream.look().signal) == (Status.STARTING, None, Signal.STARTING)


# Who comes too late


@pytest.mark.usefixtures("dead")
def test_a_second_one_has_nothing_to_repair(stream: Watched) -> None:
    stream.claim("run-1")
    before = stream.state
    with pytest.raises(NothingToRepairError, match="clicks: starting: nothing to repair"):
        stream.claim("run-2")
    assert stream.state == before


def test_of_two_that_repair_at_once_one_does(stream: Watched, dead: Lease) -> None:
    stream.store.between = lambda: stream.claim("quicker")
    with pytest.raises(NothingToRepairError, match="starting"):
        stream.claim("slower")
    assert [incident.dag_run_id for incident in stream.state.incidents] == ["quicker"]
    assert stream.state.epoch == dead.epoch + 1


def test_of_many_that_repair_at_once_one_does(stream: Watched, dead: Lease) -> None:
    def ask(number: int) -> str | None:
        try:
            return stream.claim(f"run-{number}")[1].dag_run_id
        except NothingToRepairError:
            return None

    with ThreadPoolExecutor(8) as pool:
        repaired = [run for run in pool.map(ask, range(16)) if run]
    assert [incident.dag_run_id for incident in stream.state.incidents] == repaired
    assert len(repaired) == 1
    assert stream.state.epoch == dead.epoch + 1


def test_a_holder_that_comes_back_between_look_and_repair_keeps_the_stream(stream: Watched, dead: Lease) -> None:
    stream.store.between = dead.checkpoint
    with pytest.raises(NothingToRepairError, match="stalled"):
        stream.claim()
    dead.checkpoint()
    assert (stream.state.epoch, stream.state.incidents) == (dead.epoch, ())


@pytest.mark.usefixtures("dead")
def test_a_standby_that_takes_over_between_keeps_the_stream(stream: Watched) -> None:
    stream.store.between = lambda: stream.publishes(place(8))
    with pytest.raises(NothingToRepairError, match="flowing"):
        stream.claim()
    assert stream.state.incidents == ()


@pytest.mark.usefixtures("dead")
def test_a_stop_that_comes_between_wins(stream: Watched) -> None:
    stream.store.between = lambda: mark_unwanted(stream.store, STREAM)
    with pytest.raises(NothingToRepairError, match="stopped on request"):
        stream.claim()
    assert (stream.state.wanted, stream.state.incidents) == (False, ())


@pytest.mark.usefixtures("dead")
def test_a_start_by_hand_that_comes_between_wins(stream: Watched) -> None:
    stream.store.between = lambda: announce(stream.store, FIRST)
    with pytest.raises(NothingToRepairError, match="starting"):
        stream.claim()
    assert stream.state.announced == tuple(FIRST.to_argv())


def test_a_stream_that_nobody_started_is_not_started_by_a_repair(stream: Watched) -> None:
    with pytest.raises(NothingToRepairError, match=r"no replay was ever started: run clicks\.live"):
        stream.claim()
    assert stream.store.names() == []


# Answers that are lost


def test_a_repair_whose_answer_was_lost_is_made_once(stream: Watched, dead: Lease) -> None:
    stream.store.lost = StateConflictError
    request, incident = stream.claim()
    assert (request, incident.attempts) == (AGAIN, 1)
    assert (stream.state.epoch, stream.state.incidents) == (dead.epoch + 1, (incident,))


@pytest.mark.usefixtures("dead")
def test_a_repair_that_nobody_knows_of_is_made_again_once_its_replay_should_have_come(stream: Watched) -> None:
    stream.store.lost = StateError
    with pytest.raises(StateError):
        stream.claim()
    stream.pass_(1)
    with pytest.raises(NothingToRepairError, match="starting"):
        stream.claim()
    stream.pass_(GRACE_SECONDS)
    request, incident = stream.claim("run-2")
    assert (request, incident.attempts, incident.dag_run_id) == (AGAIN, 2, "run-1")
    assert stream.state.incidents == (incident,)
