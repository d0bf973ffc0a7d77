"""Replays of one stream one after the other: where each goes on, how each is stopped, and never two at a time."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rejeu.errors import LeaseHeldError, LeaseLostError, PublishError
from rejeu.jobs.request import CURSOR
from rejeu.replay import engine
from rejeu.state.lease import Lease
from rejeu.state.model import Status
from rejeu.state.stream import announce, mark_unwanted
from rejeu.timeline import Position
from tests.fakes.breaking_store import Store
from tests.fakes.broker import UNAVAILABLE, FakeBroker, after
from tests.fakes.replay_clock import NOW, SECOND, FakeClock
from tests.replay.rows import SECONDS, STREAM, T0, MakeReplay, Run, at, bodies, body
from tests.state.fencing import fence_off

# Going on


def test_going_on_publishes_exactly_the_rest_under_the_next_epoch(
    broker: FakeBroker, store: Store, replay: MakeReplay
) -> None:
    replay(until="2021-05-01T00:00:04Z").run()
    found = replay(from_=CURSOR).run()
    assert broker.bodies == bodies(*range(10))
    assert (found.published, found.epoch) == (6, 2)
    assert replay(from_=CURSOR).run().published == 0


def test_going_on_where_nothing_ever_ran_starts_at_the_first_row(
    broker: FakeBroker, store: Store, replay: MakeReplay
) -> None:
    replay(from_=CURSOR).run()
    assert broker.bodies == bodies(*range(10))
    assert store.stream.request, "a watchdog must be able to relaunch it"


def test_starting_afresh_forgets_the_cursor(broker: FakeBroker, replay: MakeReplay) -> None:
    replay().run()
    replay(from_="2021-05-01T00:00:08Z").run()
    assert broker.bodies == bodies(*range(10), 8, 9)


def test_where_a_replay_began_is_remembered_by_those_that_go_on_from_it(store: Store, replay: MakeReplay) -> None:
    replay(from_="2021-05-01T00:00:02Z", until="2021-05-01T00:00:04Z").run()
    replay(from_=CURSOR, until="2021-05-01T00:00:06Z").run()
    assert store.stream.since == Position(T0 + 2 * SECOND)
    replay().run()
    assert store.stream.since is None, "at the source's first row"


def test_who_takes_the_lease_is_the_one_that_was_announced(store: Store, replay: MakeReplay) -> None:
    announce(store, replay()._request)
    assert store.stream.announced
    replay().run()
    assert store.stream.announced == ()


def test_a_cursor_that_another_replay_moves_meanwhile_is_the_one_that_counts(
    broker: FakeBroker, store: Store, replay: MakeReplay
) -> None:
    def another() -> None:
        lease = Lease.acquire(store, STREAM, "another", SECONDS)
        lease.release(Status.STOPPED, cursor=Position(T0 + 6 * SECOND))

    store.between = another
    replay(from_=CURSOR).run()
    assert broker.bodies == bodies(6, 7, 8, 9)


def test_a_relaunch_owes_what_fell_due_meanwhile_and_keeps_the_pace_for_the_rest(
    broker: FakeBroker, store: Store, replay: MakeReplay
) -> None:
    clock = FakeClock()
    replay(clock, speed=1, until="2021-05-01T00:00:03Z").run()
    clock.us = NOW + round(6.5 * SECOND)
    relaunched_at = datetime.now(UTC)
    replay(clock, speed=1, from_=CURSOR).run()
    state = store.stream
    assert (state.owed, state.published) == (4, 7), "rows 3 to 6 were due by then"
    assert clock.us - NOW == pytest.approx(9 * SECOND, abs=SECOND / 10)
    assert state.resumed_at is not None
    assert state.resumed_at >= relaunched_at


def test_going_on_at_another_speed_is_at_that_speed(broker: FakeBroker, replay: MakeReplay) -> None:
    clock = FakeClock()
    replay(clock, speed=1, until="2021-05-01T00:00:03Z").run()
    replay(clock, speed="max", from_=CURSOR).run()
    assert clock.us - NOW == pytest.approx(2 * SECOND, abs=SECOND / 10)


def test_a_stream_that_nobody_wants_is_not_gone_on_with(broker: FakeBroker, store: Store, replay: MakeReplay) -> None:
    replay(until="2021-05-01T00:00:04Z").run()
    mark_unwanted(store, STREAM)
    found = replay(from_=CURSOR).run()
    assert (found.status, found.published) == (Status.STOPPED, 0)
    assert broker.bodies == bodies(0, 1, 2, 3)
    assert not store.stream.wanted
    assert store.stream.cursor == Position(T0 + 3 * SECOND, 1)


def test_a_stream_that_is_started_afresh_is_wanted_again(broker: FakeBroker, store: Store, replay: MakeReplay) -> None:
    mark_unwanted(store, STREAM)
    assert replay().run().published == 10
    assert store.stream.wanted


# Told to stop


def test_a_stop_waits_for_what_is_under_way_and_saves_it(
    broker: FakeBroker, store: Store, replay: MakeReplay, background: Run
) -> None:
    slow = threading.Event()
    broker.on(body(0), after(slow))
    made = replay(speed=0.01)
    running = background(made)
    broker.wait_for(lambda: broker.attempts >= 1)
    made.stop()
    slow.set()
    found = running.result(SECONDS)
    assert (found.status, found.published) == (Status.STOPPED, 1)
    assert store.stream.cursor == Position(T0, 1)
    replay(from_=CURSOR, speed="max").run()
    assert broker.bodies == bodies(*range(10))


def test_a_stop_ends_the_wait_for_a_broker(
    broker: FakeBroker, store: Store, replay: MakeReplay, background: Run
) -> None:
    broker.topic.extend([UNAVAILABLE] * 1000)
    made = replay()
    running = background(made)
    made.stop()
    assert running.result(SECONDS).status is Status.STOPPED


def test_a_stop_that_the_broker_does_not_answer_ends_with_an_error_in_time(
    broker: FakeBroker,
    store: Store,
    replay: MakeReplay,
    background: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "DRAIN_SECONDS", 0.3)
    broker.on(body(0), *[UNAVAILABLE] * 1000)
    made = replay()
    running = background(made)
    broker.wait_for(lambda: broker.attempts >= 1)
    made.stop()
    with pytest.raises(PublishError, match=r"did not acknowledge in 0\.3 s what was sent before the stop"):
        running.result(SECONDS)
    assert (store.stream.status, store.stream.cursor) == (Status.FAILED, None)


def test_a_stream_that_is_silenced_ends_by_itself(
    broker: FakeBroker, store: Store, replay: MakeReplay, background: Run
) -> None:
    running = background(replay(speed=0.01))
    broker.wait_for(lambda: len(broker.got) >= 1)
    mark_unwanted(store, STREAM)
    assert running.result(SECONDS).status is Status.STOPPED
    assert (store.stream.wanted, store.stream.holder) == (False, None)


# One at a time


def test_a_second_replay_of_a_stream_is_refused_and_changes_nothing(
    broker: FakeBroker, store: Store, replay: MakeReplay, background: Run
) -> None:
    first = replay(speed=0.01)
    running = background(first)
    broker.wait_for(lambda: len(broker.got) >= 1)
    with pytest.raises(LeaseHeldError, match="publishes under epoch 1"):
        replay().run()
    first.stop()
    running.result(SECONDS)
    assert broker.bodies == bodies(0)
    assert store.stream.epoch == 1


def test_who_lost_the_stream_sends_nothing_more(
    broker: FakeBroker,
    store: Store,
    replay: MakeReplay,
    background: Run,
    tmp_path: Path,
) -> None:
    running = background(replay(speed=0.01, report=str(tmp_path / "report.json")))
    broker.wait_for(lambda: len(broker.got) >= 1)
    fence_off(store, STREAM, epoch=1)
    with pytest.raises(LeaseLostError, match="took over from epoch 1: this replay stops before its next message"):
        running.result(SECONDS)
    assert broker.bodies == bodies(0)
    told = json.loads((tmp_path / "report.json").read_text())
    assert (told["status"], told["cursor"]["event_time"]) == ("failed", at(0))
    assert store.stream.epoch == 2, "the document is its new holder's"


def test_who_lost_the_stream_while_the_broker_was_away_does_not_wait_for_it(
    broker: FakeBroker, store: Store, replay: MakeReplay, background: Run
) -> None:
    for number in range(10):
        broker.on(body(number), *[UNAVAILABLE] * 1000)
    running = background(replay(FakeClock(), speed=1))
    broker.wait_for(lambda: broker.attempts >= 8)  # the window is full, so the sender waits for room
    fence_off(store, STREAM, epoch=1)
    with pytest.raises(LeaseLostError):
        running.result(engine.DRAIN_SECONDS / 2)
