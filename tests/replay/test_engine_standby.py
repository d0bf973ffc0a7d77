"""A replay and its standby in one process: the signal goes on, each row once, and never from two at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from rejeu.errors import LeaseLostError, PublishError, StateError
from rejeu.jobs.request import CURSOR
from rejeu.ports import Versioned
from rejeu.replay.engine import Replay
from rejeu.replay.report import Report
from rejeu.spec.types import MAX
from rejeu.state.model import Status
from rejeu.state.standby_marker import stands_by
from rejeu.state.stream import mark_unwanted, set_pace
from rejeu.timeline import Position
from rejeu.watchdog.repair import relaunch_request
from tests.fakes.breaking_store import Store
from tests.fakes.broker import FakeBroker, refuse
from tests.fakes.replay_clock import SECOND
from tests.replay.rows import SECONDS, STREAM, T0, MakeReplay, Run, bodies, body


class Line:
    """The way of one replay to the store, which may be cut: as if its machine were gone."""

    cut = False

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, name: str) -> Versioned | None:
        self._check()
        return self._store.load(name)

    def save(self, name: str, document: dict[str, Any], expected: int | None) -> int:
        self._check()
        return self._store.save(name, document, expected)

    def names(self) -> list[str]:
        return self._store.names()

    def _check(self) -> None:
        if self.cut:
            raise StateError("state store: no route to host")


class Holder:
    """A replay that has published row 0, whose next row is due in more than a minute."""

    def __init__(self, store: Store, replay: MakeReplay, background: Run, lease_seconds: float) -> None:
        self.line = Line(store)
        self.replay = Replay(replay(speed=0.01, lease_seconds=lease_seconds)._request, self.line)
        self.running = background(self.replay)
        store.wait_for(lambda: store.stream.cursor == Position(T0, 1))


@pytest.fixture
def holder(broker: FakeBroker, store: Store, replay: MakeReplay, background: Run) -> Holder:
    return Holder(store, replay, background, lease_seconds=SECONDS)


@pytest.fixture
def frail_holder(broker: FakeBroker, store: Store, replay: MakeReplay, background: Run) -> Holder:
    """One that is missed soon."""
    return Holder(store, replay, background, lease_seconds=0.3)


@pytest.fixture
def stand_by(store: Store, replay: MakeReplay, background: Run) -> Callable[..., Future[Report]]:
    """Starts a standby at speed max."""

    def start(**values: Any) -> Future[Report]:
        return background(replay(standby=True, **values))

    return start


def test_a_holder_that_is_gone_is_replaced_and_when_it_comes_back_it_sends_nothing(
    broker: FakeBroker, store: Store, frail_holder: Holder, stand_by: Callable[..., Future[Report]]
) -> None:
    standby = stand_by()
    frail_holder.line.cut = True
    found = standby.result(SECONDS)
    assert (found.status, found.published, found.epoch) == (Status.FINISHED, 9, 2)
    frail_holder.line.cut = False
    with pytest.raises(LeaseLostError):
        frail_holder.running.result(SECONDS)
    assert broker.bodies == bodies(*range(10))
    assert {message.attributes["epoch"] for message in broker.got if message.data != body(0)} == {"2"}
    assert (store.stream.status, store.stream.cursor) == (Status.FINISHED, Position(T0 + 9 * SECOND, 1))


def test_a_holder_that_is_stopped_while_the_stream_is_wanted_is_replaced(
    broker: FakeBroker, holder: Holder, stand_by: Callable[..., Future[Report]]
) -> None:
    standby = stand_by()
    holder.replay.stop()
    assert holder.running.result(SECONDS).status is Status.STOPPED
    assert standby.result(SECONDS).published == 9
    assert broker.bodies == bodies(*range(10))


def test_a_holder_that_fails_is_replaced(
    broker: FakeBroker, store: Store, holder: Holder, stand_by: Callable[..., Future[Report]]
) -> None:
    broker.on(body(1), refuse(grpc.StatusCode.INVALID_ARGUMENT, "bad day"))
    standby = stand_by()
    set_pace(store, STREAM, speed=MAX)
    with pytest.raises(PublishError, match="bad day"):
        holder.running.result(SECONDS)
    assert standby.result(SECONDS).status is Status.FINISHED
    assert sorted(set(broker.bodies)) == bodies(*range(10)), "rows that came after the refused one may come twice"


def test_a_stream_that_ends_well_ends_its_standby_too(
    broker: FakeBroker, store: Store, holder: Holder, stand_by: Callable[..., Future[Report]], tmp_path: Path
) -> None:
    standby = stand_by(report=str(tmp_path / "report.json"))
    set_pace(store, STREAM, speed=MAX)
    assert holder.running.result(SECONDS).published == 10
    found = standby.result(SECONDS)
    assert (found.status, found.published, found.epoch, found.cursor) == (Status.STOPPED, 0, 0, None)
    assert (store.stream.status, store.stream.epoch) == (Status.FINISHED, 1)
    assert Report.model_validate_json((tmp_path / "report.json").read_text()) == found
    assert broker.bodies == bodies(*range(10))


def test_a_stream_that_nobody_wants_any_more_ends_both(
    broker: FakeBroker, store: Store, holder: Holder, stand_by: Callable[..., Future[Report]]
) -> None:
    standby = stand_by()
    mark_unwanted(store, STREAM)
    assert holder.running.result(SECONDS).status is Status.STOPPED
    assert standby.result(SECONDS).status is Status.STOPPED
    assert broker.bodies == bodies(0)


def test_a_standby_is_stopped_like_any_replay(
    broker: FakeBroker, store: Store, holder: Holder, replay: MakeReplay, background: Run
) -> None:
    made = replay(standby=True)
    standby = background(made)
    made.stop()
    assert standby.result(SECONDS).status is Status.STOPPED
    assert (store.stream.epoch, store.stream.status) == (1, Status.RUNNING)


def test_of_two_standbys_one_takes_over_and_the_other_stands_by_it(
    broker: FakeBroker, store: Store, holder: Holder, stand_by: Callable[..., Future[Report]]
) -> None:
    standbys = [stand_by(), stand_by()]
    holder.replay.stop()
    found = sorted(standby.result(SECONDS).published for standby in standbys)
    assert found == [0, 9]
    assert store.stream.epoch == 2
    assert broker.bodies == bodies(*range(10))


def test_a_paused_stream_stays_paused_when_it_is_taken_over(
    broker: FakeBroker, store: Store, frail_holder: Holder, stand_by: Callable[..., Future[Report]]
) -> None:
    set_pace(store, STREAM, paused=True)
    store.wait_for(lambda: store.stream.paused and store.stream.next_due is None)
    standby = stand_by()
    frail_holder.line.cut = True
    store.wait_for(lambda: store.stream.epoch == 2 and store.stream.status is Status.RUNNING)
    saved = store.saved
    store.wait_for(lambda: store.saved > saved + 10)
    assert broker.bodies == bodies(0)
    set_pace(store, STREAM, paused=False)
    assert standby.result(SECONDS).published == 9


def test_who_repeats_what_a_standby_did_publishes_and_does_not_stand_by(
    broker: FakeBroker, store: Store, holder: Holder, stand_by: Callable[..., Future[Report]]
) -> None:
    standby = stand_by(twin=True)
    holder.replay.stop()
    standby.result(SECONDS)
    again = relaunch_request(store.stream)
    assert (again.standby, again.from_, again.job_name) == (False, CURSOR, f"rejeu-replay-{STREAM}")


def test_a_standby_is_present_until_it_takes_over(
    broker: FakeBroker, store: Store, holder: Holder, stand_by: Callable[..., Future[Report]]
) -> None:
    standby = stand_by()
    store.wait_for(lambda: stands_by(store, STREAM, datetime.now(UTC)))
    holder.replay.stop()
    standby.result(SECONDS)
    assert not stands_by(store, STREAM, datetime.now(UTC))
