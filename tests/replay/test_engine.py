"""The replay from start to end in this process: what it publishes, what it saves, and how it ends."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from rejeu.errors import LeaseHeldError, LeaseLostError, PublishError, RequestError, SourceError, StateError
from rejeu.live import relaunch_request, silence
from rejeu.replay import engine, report
from rejeu.replay.engine import Replay
from rejeu.replay.report import Report
from rejeu.request import CURSOR, ReplayRequest
from rejeu.state.lease import Lease, read_state, release_dead
from rejeu.state.model import Status, StreamState
from rejeu.testing import MemoryStore
from rejeu.timeline import Position, parse_instant, to_us
from tests.replay.fake_broker import UNAVAILABLE, FakeBroker, after, refuse
from tests.replay.fake_clock import NOW, SECOND, FakeClock

STREAM = "clicks"
TOPIC = "projects/rejeu-local/topics/t"
T0 = to_us(parse_instant("2021-05-01T00:00:00Z"))
SECONDS = 20.0


class Store(MemoryStore):
    """A state store in which others may come between, and which may break; says how often it refused."""

    between: Callable[[], object] | None = None
    broken = False

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0
        self._changed = threading.Condition()

    def wait_for(self, true: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(true, SECONDS)

    def save(self, name: str, document: dict[str, Any], expected: int | None) -> int:
        somebody, self.between = self.between, None
        if somebody is not None:
            somebody()
        if self.broken:
            with self._changed:
                self.refused += 1
                self._changed.notify_all()
            raise StateError("state store: disk full")
        return super().save(name, document, expected)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    with FakeBroker() as started:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", started.address)
        yield started


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Ten rows, a second apart; line n is row n."""
    path = tmp_path / "rows.ndjson"
    path.write_bytes(b"".join(body(number) + b"\n" for number in range(10)))
    return path


@pytest.fixture
def replay(broker: FakeBroker, store: Store, file: Path) -> Callable[..., Replay]:
    """Makes a replay of the file at speed max; its flags may be told otherwise."""

    def make(clock: FakeClock | None = None, **values: Any) -> Replay:
        given = {"topic": TOPIC, "stream": STREAM, "file": str(file), "event_time": "at", "key": ("n",)}
        given |= {"speed": "max", "checkpoint_seconds": 0.01, "patience_seconds": SECONDS, "state": "sqlite:unused"}
        return Replay(ReplayRequest.of(**given | values), store, clock)

    return make


@pytest.fixture
def background() -> Iterator[Callable[[Replay], "Future[Report]"]]:
    """Runs a replay beside the test."""
    started: list[Replay] = []
    with ThreadPoolExecutor() as pool:

        def run(made: Replay) -> "Future[Report]":
            started.append(made)
            return pool.submit(made.run)

        yield run
        for each in started:
            each.stop()


def body(number: int) -> bytes:
    return b'{"at":"2021-05-01T00:00:%02dZ","n":%d}' % (number, number)


def bodies(*numbers: int) -> list[bytes]:
    return sorted(body(number) for number in numbers)


def at(number: int) -> str:
    return f"2021-05-01T00:00:{number:02d}.000000Z"


def state_in(store: Store) -> StreamState:
    state = read_state(store, STREAM)
    assert state is not None
    return state


# To the end


def test_a_replay_publishes_every_row_and_says_so(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay], tmp_path: Path
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
    state = state_in(store)
    assert (state.status, state.holder, state.published) == (Status.FINISHED, None, 10)
    assert state.cursor == Position(T0 + 9 * SECOND, 1)
    assert relaunch_request(state) == made._request.model_copy(update={"from_": CURSOR})


def test_a_replay_keeps_its_pace(broker: FakeBroker, replay: Callable[..., Replay]) -> None:
    clock = FakeClock()
    found = replay(clock, speed=3).run()
    assert clock.us - NOW == pytest.approx(3 * SECOND, abs=SECOND / 10)
    assert found.lateness_ms is not None
    assert found.lateness_ms["max"] < 1


def test_a_window_without_rows_is_an_end_like_any_other(broker: FakeBroker, replay: Callable[..., Replay]) -> None:
    found = replay(from_="2030-01-01T00:00:00Z").run()
    assert (found.status, found.published) == (Status.FINISHED, 0)
    assert broker.attempts == 0


def test_a_window_that_goes_beyond_the_last_row_ends_with_that_row(
    broker: FakeBroker, replay: Callable[..., Replay]
) -> None:
    clock = FakeClock()
    assert replay(clock, speed=1, until="2031-01-01T00:00:00Z").run().status is Status.FINISHED
    assert clock.us - NOW == pytest.approx(9 * SECOND, abs=SECOND / 10)


def test_while_it_waits_for_the_source_it_says_how_far_it_is(
    broker: FakeBroker,
    replay: Callable[..., Replay],
    background: Callable[[Replay], "Future[Report]"],
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


# Going on


def test_going_on_publishes_exactly_the_rest_under_the_next_epoch(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay]
) -> None:
    replay(until="2021-05-01T00:00:04Z").run()
    found = replay(from_=CURSOR).run()
    assert broker.bodies == bodies(*range(10))
    assert (found.published, found.epoch) == (6, 2)
    assert replay(from_=CURSOR).run().published == 0


def test_going_on_where_nothing_ever_ran_starts_at_the_first_row(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay]
) -> None:
    replay(from_=CURSOR).run()
    assert broker.bodies == bodies(*range(10))
    assert state_in(store).request, "a watchdog must be able to relaunch it"


def test_starting_afresh_forgets_the_cursor(broker: FakeBroker, replay: Callable[..., Replay]) -> None:
    replay().run()
    replay(from_="2021-05-01T00:00:08Z").run()
    assert broker.bodies == bodies(*range(10), 8, 9)


def test_a_cursor_that_another_replay_moves_meanwhile_is_the_one_that_counts(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay]
) -> None:
    def another() -> None:
        lease = Lease.acquire(store, STREAM, "another", SECONDS)
        lease.release(Status.STOPPED, cursor=Position(T0 + 6 * SECOND))

    store.between = another
    replay(from_=CURSOR).run()
    assert broker.bodies == bodies(6, 7, 8, 9)


def test_a_relaunch_owes_what_fell_due_meanwhile_and_keeps_the_pace_for_the_rest(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay]
) -> None:
    clock = FakeClock()
    replay(clock, speed=1, until="2021-05-01T00:00:03Z").run()
    clock.us = NOW + round(6.5 * SECOND)
    relaunched_at = datetime.now(UTC)
    replay(clock, speed=1, from_=CURSOR).run()
    state = state_in(store)
    assert (state.owed, state.published) == (4, 7), "rows 3 to 6 were due by then"
    assert clock.us - NOW == pytest.approx(9 * SECOND, abs=SECOND / 10)
    assert state.resumed_at is not None
    assert state.resumed_at >= relaunched_at


def test_going_on_at_another_speed_is_at_that_speed(broker: FakeBroker, replay: Callable[..., Replay]) -> None:
    clock = FakeClock()
    replay(clock, speed=1, until="2021-05-01T00:00:03Z").run()
    replay(clock, speed="max", from_=CURSOR).run()
    assert clock.us - NOW == pytest.approx(2 * SECOND, abs=SECOND / 10)


def test_a_stream_that_nobody_wants_is_not_gone_on_with(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay]
) -> None:
    replay(until="2021-05-01T00:00:04Z").run()
    silence(store, STREAM)
    found = replay(from_=CURSOR).run()
    assert (found.status, found.published) == (Status.STOPPED, 0)
    assert broker.bodies == bodies(0, 1, 2, 3)
    assert not state_in(store).wanted
    assert state_in(store).cursor == Position(T0 + 3 * SECOND, 1)


def test_a_stream_that_is_started_afresh_is_wanted_again(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay]
) -> None:
    silence(store, STREAM)
    assert replay().run().published == 10
    assert state_in(store).wanted


# Told to stop


def test_a_stop_waits_for_what_is_under_way_and_saves_it(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay], background: Callable[[Replay], "Future[Report]"]
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
    assert state_in(store).cursor == Position(T0, 1)
    replay(from_=CURSOR, speed="max").run()
    assert broker.bodies == bodies(*range(10))


def test_a_stop_ends_the_wait_for_a_broker(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay], background: Callable[[Replay], "Future[Report]"]
) -> None:
    broker.topic.extend([UNAVAILABLE] * 1000)
    made = replay()
    running = background(made)
    made.stop()
    assert running.result(SECONDS).status is Status.STOPPED


def test_a_stop_that_the_broker_does_not_answer_ends_with_an_error_in_time(
    broker: FakeBroker,
    store: Store,
    replay: Callable[..., Replay],
    background: Callable[[Replay], "Future[Report]"],
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
    assert (state_in(store).status, state_in(store).cursor) == (Status.FAILED, None)


def test_a_stream_that_is_silenced_ends_by_itself(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay], background: Callable[[Replay], "Future[Report]"]
) -> None:
    running = background(replay(speed=0.01))
    broker.wait_for(lambda: len(broker.got) >= 1)
    silence(store, STREAM)
    assert running.result(SECONDS).status is Status.STOPPED
    assert (state_in(store).wanted, state_in(store).holder) == (False, None)


# One at a time


def test_a_second_replay_of_a_stream_is_refused_and_changes_nothing(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay], background: Callable[[Replay], "Future[Report]"]
) -> None:
    first = replay(speed=0.01)
    running = background(first)
    broker.wait_for(lambda: len(broker.got) >= 1)
    with pytest.raises(LeaseHeldError, match="publishes under epoch 1"):
        replay().run()
    first.stop()
    running.result(SECONDS)
    assert broker.bodies == bodies(0)
    assert state_in(store).epoch == 1


def test_who_lost_the_stream_sends_nothing_more(
    broker: FakeBroker,
    store: Store,
    replay: Callable[..., Replay],
    background: Callable[[Replay], "Future[Report]"],
    tmp_path: Path,
) -> None:
    running = background(replay(speed=0.01, report=str(tmp_path / "report.json")))
    broker.wait_for(lambda: len(broker.got) >= 1)
    release_dead(store, STREAM, epoch=1)
    with pytest.raises(LeaseLostError, match="took over from epoch 1: this replay stops before its next message"):
        running.result(SECONDS)
    assert broker.bodies == bodies(0)
    told = json.loads((tmp_path / "report.json").read_text())
    assert (told["status"], told["cursor"]["event_time"]) == ("failed", at(0))
    assert state_in(store).epoch == 2, "the document is its new holder's"


def test_who_lost_the_stream_while_the_broker_was_away_does_not_wait_for_it(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay], background: Callable[[Replay], "Future[Report]"]
) -> None:
    for number in range(10):
        broker.on(body(number), *[UNAVAILABLE] * 1000)
    running = background(replay(FakeClock(), speed=1))
    broker.wait_for(lambda: broker.attempts >= 8)  # the window is full, so the sender waits for room
    release_dead(store, STREAM, epoch=1)
    with pytest.raises(LeaseLostError):
        running.result(engine.DRAIN_SECONDS / 2)


# What goes wrong


def test_a_missing_topic_is_an_error_that_the_state_and_the_report_know(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay], tmp_path: Path
) -> None:
    broker.topic.append(refuse(grpc.StatusCode.NOT_FOUND))
    with pytest.raises(PublishError) as caught:
        replay(report=str(tmp_path / "report.json")).run()
    state = state_in(store)
    assert (state.status, state.holder, state.error) == (Status.FAILED, None, str(caught.value))
    assert json.loads((tmp_path / "report.json").read_text())["error"] == str(caught.value)


def test_a_broker_that_stays_away_leaves_the_cursor_where_it_was(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay], tmp_path: Path
) -> None:
    broker.on(body(3), *[UNAVAILABLE] * 1000)
    start = Position(T0 + 3 * SECOND)
    with pytest.raises(PublishError, match="start again with --from cursor"):
        replay(from_=at(3), patience_seconds=0.2, report=str(tmp_path / "report.json")).run()
    assert state_in(store).cursor == start
    told = json.loads((tmp_path / "report.json").read_text())
    assert (told["published"], told["cursor"]) == (0, {"event_time": at(3), "rows_at_that_time": 0})


def test_the_end_of_the_source_waits_as_patiently_as_its_middle(
    broker: FakeBroker, replay: Callable[..., Replay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "DRAIN_SECONDS", 0.0)
    broker.on(body(0), *[UNAVAILABLE] * 4)
    assert replay().run().status is Status.FINISHED


def test_rows_before_a_source_that_breaks_are_published_and_saved(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = engine.read_chunks

    def break_off(*given: Any) -> Iterator[Any]:
        yield from whole(*given)
        raise SourceError("the table is gone")

    monkeypatch.setattr(engine, "read_chunks", break_off)
    with pytest.raises(SourceError, match="the table is gone"):
        replay().run()
    assert broker.bodies == bodies(*range(10))
    state = state_in(store)
    assert (state.status, state.error) == (Status.FAILED, "the table is gone")
    assert state.cursor == Position(T0 + 9 * SECOND, 1)


def test_a_report_that_cannot_be_written_is_refused_before_the_first_row(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay], tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="it cannot be written"):
        replay(report=str(tmp_path)).run()
    assert (broker.attempts, read_state(store, STREAM)) == (0, None)


def test_a_store_that_breaks_stops_the_replay_once_the_lease_ran_out(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay], background: Callable[[Replay], "Future[Report]"]
) -> None:
    running = background(replay(speed=0.01, lease_seconds=0.1, patience_seconds=0.2))
    broker.wait_for(lambda: len(broker.got) >= 1)
    store.broken = True
    with pytest.raises(StateError, match="disk full"):
        running.result(SECONDS)


def test_a_lease_that_ran_out_and_that_nobody_took_is_taken_up_again(
    broker: FakeBroker, store: Store, replay: Callable[..., Replay], background: Callable[[Replay], "Future[Report]"]
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


def test_a_document_of_another_version_is_told(broker: FakeBroker, store: Store, replay: Callable[..., Replay]) -> None:
    store.save(STREAM, {"stream": STREAM, "mood": "fine"}, None)
    with pytest.raises(StateError) as caught:
        replay().run()
    assert str(caught.value).startswith("state of clicks: mood: it is 'fine'")
    assert "another version of Rejeu wrote it" in str(caught.value)
