"""The replay from start to end in this process: what it publishes and saves, and what goes wrong."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from rejeu.errors import PublishError, RequestError, SourceError, StateError
from rejeu.jobs.request import CURSOR
from rejeu.replay import engine, report
from rejeu.state.lease import read_state
from rejeu.state.model import Status
from rejeu.timeline import Position
from rejeu.watchdog.repair import relaunch_request
from tests.fakes.breaking_store import Store
from tests.fakes.broker import UNAVAILABLE, FakeBroker, refuse
from tests.fakes.replay_clock import NOW, SECOND, FakeClock
from tests.replay.rows import SECONDS, STREAM, T0, MakeReplay, Run, at, bodies, body

# To the end


def test_a_replay_publishes_every_row_and_says_so(
    broker: FakeBroker, store: Store, replay: MakeReplay, tmp_path: Path
) -> None:
    made = replay(report=str(tmp_path / "report.json"))
    found = made.run()
    assert broker.bodies == bodies(*range(10))
    [seventh] = [message for message in broker.got if message.data == body(7)]
    assert dict(seventh.attributes) == {
        "row_id": f"clicks/{T0 + 7 * SECOND}/7/0",
        "event_time": at(7),
        "stream": "clicks",
        "epoch": "1",
    }
    assert (found.status, found.published, found.lateness_ms, found.epoch) == (Status.FINISHED, 10, None, 1)
    assert found.cursor == {"event_time": at(9), "rows_at_that_time": 1}
    assert json.loads((tmp_path / "report.json").read_text()) == found.model_dump(mode="json")
    state = store.stream
    assert (state.status, state.holder, state.published) == (Status.FINISHED, None, 10)
    assert state.ready
    assert state.cursor == Position(T0 + 9 * SECOND, 1)
    assert relaunch_request(state) == made._request.model_copy(update={"from_": CURSOR})


def test_a_replay_keeps_its_pace(broker: FakeBroker, replay: MakeReplay) -> None:
    clock = FakeClock()
    found = replay(clock, speed=3).run()
    assert clock.us - NOW == pytest.approx(3 * SECOND, abs=SECOND / 10)
    assert found.lateness_ms is not None
    assert found.lateness_ms["max"] < 1


def test_a_window_without_rows_is_an_end_like_any_other(broker: FakeBroker, replay: MakeReplay) -> None:
    found = replay(from_="2030-01-01T00:00:00Z").run()
    assert (found.status, found.published) == (Status.FINISHED, 0)
    assert broker.attempts == 0


def test_a_window_that_goes_beyond_the_last_row_ends_with_that_row(broker: FakeBroker, replay: MakeReplay) -> None:
    clock = FakeClock()
    assert replay(clock, speed=1, until="2031-01-01T00:00:00Z").run().status is Status.FINISHED
    assert clock.us - NOW == pytest.approx(9 * SECOND, abs=SECOND / 10)


def test_while_it_waits_for_the_source_it_says_how_far_it_is(
    broker: FakeBroker,
    replay: MakeReplay,
    background: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "LINE_SECONDS", 0.0)
    read, told = threading.Event(), threading.Event()

    def slowly(*_: Any) -> Iterator[Any]:
        assert read.wait(SECONDS)
        return
        yield

    monkeypatch.setattr(engine, "read_chunks", slowly)
    monkeypatch.setattr(report.log, "info", lambda *_: told.set())
    running = background(replay())
    assert told.wait(SECONDS)
    read.set()
    running.result(SECONDS)


# What goes wrong


def test_a_missing_topic_is_an_error_that_the_state_and_the_report_know(
    broker: FakeBroker, store: Store, replay: MakeReplay, tmp_path: Path
) -> None:
    broker.topic.append(refuse(grpc.StatusCode.NOT_FOUND))
    with pytest.raises(PublishError) as caught:
        replay(report=str(tmp_path / "report.json")).run()
    state = store.stream
    assert (state.status, state.holder, state.error) == (Status.FAILED, None, str(caught.value))
    assert not state.ready, "it was never known whether a row is due"
    assert json.loads((tmp_path / "report.json").read_text())["error"] == str(caught.value)


def test_a_broker_that_stays_away_leaves_the_cursor_where_it_was(
    broker: FakeBroker, store: Store, replay: MakeReplay, tmp_path: Path
) -> None:
    broker.on(body(3), *[UNAVAILABLE] * 1000)
    start = Position(T0 + 3 * SECOND)
    with pytest.raises(PublishError, match="start again with --from cursor"):
        replay(from_=at(3), patience_seconds=0.2, report=str(tmp_path / "report.json")).run()
    assert store.stream.cursor == start
    told = json.loads((tmp_path / "report.json").read_text())
    assert (told["published"], told["cursor"]) == (0, {"event_time": at(3), "rows_at_that_time": 0})


def test_the_end_of_the_source_waits_as_patiently_as_its_middle(
    broker: FakeBroker, replay: MakeReplay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "DRAIN_SECONDS", 0.0)
    broker.on(body(0), *[UNAVAILABLE] * 4)
    assert replay().run().status is Status.FINISHED


def test_rows_before_a_source_that_breaks_are_published_and_saved(
    broker: FakeBroker, store: Store, replay: MakeReplay, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = engine.read_chunks

    def break_off(*given: Any) -> Iterator[Any]:
        yield from whole(*given)
        raise SourceError("the table is gone")

    monkeypatch.setattr(engine, "read_chunks", break_off)
    with pytest.raises(SourceError, match="the table is gone"):
        replay().run()
    assert broker.bodies == bodies(*range(10))
    state = store.stream
    assert (state.status, state.error) == (Status.FAILED, "the table is gone")
    assert state.cursor == Position(T0 + 9 * SECOND, 1)


def test_a_report_that_cannot_be_written_is_refused_before_the_first_row(
    broker: FakeBroker, store: Store, replay: MakeReplay, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="it cannot be written"):
        replay(report=str(tmp_path)).run()
    assert (broker.attempts, read_state(store, STREAM)) == (0, None)


def test_a_store_that_breaks_stops_the_replay_once_the_lease_ran_out(
    broker: FakeBroker, store: Store, replay: MakeReplay, background: Run
) -> None:
    running = background(replay(speed=0.01, lease_seconds=0.1, patience_seconds=0.2))
    broker.wait_for(lambda: len(broker.got) >= 1)
    store.broken = True
    with pytest.raises(StateError, match="disk full"):
        running.result(SECONDS)


def test_a_lease_that_ran_out_and_that_nobody_took_is_taken_up_again(
    broker: FakeBroker, store: Store, replay: MakeReplay, background: Run
) -> None:
    made = replay(speed=10, lease_seconds=0.1)
    running = background(made)
    broker.wait_for(lambda: len(broker.got) >= 1)
    store.broken = True
    store.wait_for(lambda: store.refused > 20)  # twice as long as the lease
    published = len(broker.got)
    store.wait_for(lambda: store.refused > 40)
    assert len(broker.got) <= published + 1, "without a lease nothing is sent"
    store.broken = False
    assert running.result(SECONDS).published == 10


def test_a_document_that_is_broken_is_told(broker: FakeBroker, store: Store, replay: MakeReplay) -> None:
    store.save(STREAM, {"stream": STREAM, "wanted": "perhaps"}, None)
    with pytest.raises(StateError) as caught:
        replay().run()
    assert str(caught.value).startswith("state of clicks: wanted: it is 'perhaps'")
    assert "keep the document: it holds the cursor" in str(caught.value)
