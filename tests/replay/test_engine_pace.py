"""A running replay that is told to pause, to go on, or to take another speed: by the document, or by a signal."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from rejeu.jobs.request import CURSOR
from rejeu.replay.engine import Replay
from rejeu.replay.report import Report
from rejeu.spec.types import MAX
from rejeu.state.model import Status
from rejeu.state.stream import set_pace
from rejeu.timeline import Position
from tests.fakes.breaking_store import Store
from tests.fakes.broker import FakeBroker
from tests.replay.rows import SECONDS, STREAM, T0, MakeReplay, Run, bodies

HELD = 10
"""Checkpoints in a pause after which one may believe that it holds."""


@pytest.fixture
def slow(broker: FakeBroker, store: Store, replay: MakeReplay, background: Run) -> tuple[Replay, Future[Report]]:
    """A replay that has published its first row, whose second one is due in more than a minute."""
    made = replay(speed=0.01)
    running = background(made)
    store.wait_for(lambda: store.stream.cursor is not None and store.stream.next_due is not None)
    return made, running


def wait_for_pause(store: Store) -> None:
    """Until the replay has paused, and some checkpoints more."""
    store.wait_for(lambda: store.stream.paused and store.stream.status is Status.RUNNING and not store.stream.next_due)
    saved = store.saved
    store.wait_for(lambda: store.saved > saved + HELD)


def test_a_stream_that_is_paused_holds_its_place_whatever_its_speed(
    broker: FakeBroker, store: Store, slow: tuple[Replay, Future[Report]]
) -> None:
    _, running = slow
    set_pace(store, STREAM, paused=True)
    wait_for_pause(store)
    set_pace(store, STREAM, speed=MAX)
    store.wait_for(lambda: store.stream.timeline is not None and store.stream.timeline.speed is None)
    wait_for_pause(store)
    assert broker.bodies == bodies(0)
    set_pace(store, STREAM, paused=False)
    assert running.result(SECONDS).published == 10
    assert broker.bodies == bodies(*range(10))


def test_a_signal_pauses_and_another_one_ends_the_pause_and_both_are_written_down(
    broker: FakeBroker, store: Store, slow: tuple[Replay, Future[Report]]
) -> None:
    made, running = slow
    made.pause(True)
    wait_for_pause(store)
    set_pace(store, STREAM, speed=MAX)
    wait_for_pause(store)
    assert broker.bodies == bodies(0)
    made.pause(False)
    assert running.result(SECONDS).published == 10
    assert not store.stream.paused


def test_a_pause_that_a_signal_began_may_be_ended_by_the_document(
    broker: FakeBroker, store: Store, slow: tuple[Replay, Future[Report]]
) -> None:
    made, running = slow
    made.pause(True)
    wait_for_pause(store)
    set_pace(store, STREAM, paused=False, speed=MAX)
    assert running.result(SECONDS).published == 10


def test_a_signal_that_comes_while_the_store_cannot_be_written_is_not_forgotten(
    store: Store, slow: tuple[Replay, Future[Report]]
) -> None:
    made, _ = slow
    store.broken = True
    made.pause(True)
    refused = store.refused
    store.wait_for(lambda: store.refused > refused + 3)
    store.broken = False
    wait_for_pause(store)


def test_a_stream_takes_another_speed_while_it_runs(
    broker: FakeBroker, store: Store, slow: tuple[Replay, Future[Report]]
) -> None:
    _, running = slow
    set_pace(store, STREAM, speed=100.0)
    assert running.result(SECONDS).published == 10
    assert store.stream.timeline is not None
    assert store.stream.timeline.speed == 100.0


def test_a_stop_ends_a_pause(broker: FakeBroker, store: Store, slow: tuple[Replay, Future[Report]]) -> None:
    made, running = slow
    made.pause(True)
    wait_for_pause(store)
    made.stop()
    assert running.result(SECONDS).status is Status.STOPPED
    assert (store.stream.cursor, store.stream.paused) == (Position(T0, 1), True)


def test_a_replay_that_goes_on_keeps_pause_and_speed(
    broker: FakeBroker, store: Store, replay: MakeReplay, background: Run
) -> None:
    replay(until="2021-05-01T00:00:04Z").run()
    set_pace(store, STREAM, paused=True, speed=60.0)
    made = replay(from_=CURSOR)
    running = background(made)
    wait_for_pause(store)
    assert broker.bodies == bodies(0, 1, 2, 3)
    made.pause(False)
    assert running.result(SECONDS).published == 6
    assert store.stream.timeline is not None
    assert store.stream.timeline.speed == 60.0


def test_a_replay_that_starts_afresh_forgets_both(broker: FakeBroker, store: Store, replay: MakeReplay) -> None:
    replay(until="2021-05-01T00:00:04Z").run()
    set_pace(store, STREAM, paused=True, speed=0.001)
    assert replay().run().published == 10
    assert (store.stream.paused, store.stream.speed) == (False, None)
