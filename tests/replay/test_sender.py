"""The sender: never early, what is due together travels together, and what was reached is never more than is known."""

from collections import deque
from typing import Any

import pytest

from rejeu.message import MAX_MESSAGE_BYTES, MAX_REQUEST_MESSAGES
from rejeu.replay.order import Chunk
from rejeu.replay.publisher import Acknowledged, Batch
from rejeu.replay.sender import Sender, keep_on
from rejeu.timeline import Position, Timeline, from_us, parse_instant, to_us
from tests.replay.fake_clock import NOW, SECOND, FakeClock

T0 = to_us(parse_instant("2021-05-01T00:00:00Z"))


class FakePublisher:
    """Keeps what it is given, with the time; acknowledges on command."""

    topic = "projects/rejeu-local/topics/t"

    def __init__(self, clock: FakeClock) -> None:
        self.acknowledged = Acknowledged()
        self.room = True
        self.sent: list[tuple[int, Batch]] = []
        self._pending: deque[Batch] = deque()
        self._clock = clock

    def has_room(self, seconds: float) -> bool:
        return self.room

    def send(self, batch: Batch) -> None:
        self.sent.append((self._clock.us, batch))
        self._pending.append(batch)

    def oldest_pending(self) -> int | None:
        return self._pending[0].first_us if self._pending else None

    def acknowledge(self) -> None:
        batch, before, now = self._pending.popleft(), self.acknowledged, from_us(self._clock.us)
        self.acknowledged = Acknowledged(before.rows + batch.rows, batch.end, before.first or now, now)


class Bench:
    """A sender, its clock, and the publisher it sends to."""

    def __init__(self, speed: float | None = 1.0, **options: Any) -> None:
        self.clock = FakeClock()
        self.publisher = FakePublisher(self.clock)
        given: dict[str, Any] = {"stream": "clicks", "epoch": 3, "start": None, "timeline": None} | options
        self.sender = Sender(self.publisher, self.clock, speed=speed, **given)  # type: ignore[arg-type]

    def send_all(self, chunk: Chunk) -> None:
        at = 0
        while at < len(chunk.data):
            at = self.sender.send(chunk, at)

    @property
    def sent(self) -> list[tuple[int, list[bytes]]]:
        """When each request was sent, in microseconds from the beginning, and its bodies."""
        return [(us - NOW, [message.data for message in batch.request.messages]) for us, batch in self.publisher.sent]

    @property
    def ends(self) -> list[Position]:
        return [batch.end for _, batch in self.publisher.sent]


def rows(*seconds: float, size: int = 0) -> Chunk:
    """Rows so many seconds after T0; their bodies are their numbers, filled up to a size."""
    times = [T0 + round(second * SECOND) for second in seconds]
    return Chunk(times, [f"clicks/{us}/k/0" for us in times], [(b"%d" % n).ljust(size) for n in range(len(times))])


# Pace


def test_rows_are_sent_when_they_are_due_and_never_before() -> None:
    bench = Bench(speed=1.0)
    bench.send_all(rows(0, 0.01, 1, 2.5))
    assert bench.sent == [(0, [b"0"]), (0.01 * SECOND, [b"1"]), (1 * SECOND, [b"2"]), (2.5 * SECOND, [b"3"])]


def test_a_greater_speed_is_a_greater_rate() -> None:
    bench = Bench(speed=60.0)
    bench.send_all(rows(0, 60, 150))
    assert [us for us, _ in bench.sent] == [0, 1 * SECOND, 2.5 * SECOND]


def test_a_speed_below_one_is_slower_than_life() -> None:
    bench = Bench(speed=0.5)
    bench.send_all(rows(0, 1))
    assert [us for us, _ in bench.sent] == [0, 2 * SECOND]


def test_at_speed_max_nothing_is_waited_for() -> None:
    bench = Bench(speed=None)
    bench.send_all(rows(0, 3600, 7200))
    assert bench.sent == [(0, [b"0", b"1", b"2"])]
    assert bench.sender.lateness.milliseconds() is None


def test_rows_of_a_few_milliseconds_travel_together() -> None:
    bench = Bench(speed=1.0)
    bench.send_all(rows(0, 0.001, 0.002, 0.0029, 0.5))
    assert [bodies for _, bodies in bench.sent] == [[b"0"], [b"1", b"2", b"3"], [b"4"]]


def test_time_begins_at_the_start_that_was_asked_for_and_not_at_the_first_row_after_it() -> None:
    bench = Bench(start=Position(T0 - 5 * SECOND))
    bench.send_all(rows(0))
    assert [us for us, _ in bench.sent] == [5 * SECOND]


def test_how_late_rows_were_is_counted() -> None:
    bench = Bench(timeline=Timeline(T0, NOW - SECOND, 1.0))
    bench.send_all(rows(0, 0.5))
    assert bench.sender.lateness.milliseconds() == pytest.approx({"p50": 500, "p99": 1000, "max": 1000}, rel=0.03)


def test_no_room_means_no_request_and_the_same_row_again() -> None:
    bench = Bench()
    bench.publisher.room = False
    assert bench.sender.send(rows(0, 1), 0) == 0
    bench.publisher.room = True
    assert bench.sender.send(rows(0, 1), 0) == 1


# Requests


def test_a_request_has_no_more_messages_than_pubsub_takes() -> None:
    bench = Bench(speed=None)
    bench.send_all(rows(*[0] * (2 * MAX_REQUEST_MESSAGES + 1)))
    assert [len(bodies) for _, bodies in bench.sent] == [MAX_REQUEST_MESSAGES, MAX_REQUEST_MESSAGES, 1]


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES // 400, MAX_MESSAGE_BYTES // 10, MAX_MESSAGE_BYTES // 2 - 100])
@pytest.mark.parametrize("stream", ["clicks", "c" * 63])
def test_a_request_has_no_more_bytes_than_pubsub_takes(size: int, stream: str) -> None:
    bench = Bench(speed=None, stream=stream)
    chunk = rows(*[0] * (2 * MAX_MESSAGE_BYTES // size), size=size)
    long_id = f"{stream}/{T0}/" + "\N{ROCKET}" * 200
    bench.send_all(Chunk(chunk.event_us, [long_id] * len(chunk.data), chunk.data))
    assert max(batch.request.ByteSize() for _, batch in bench.publisher.sent) <= MAX_MESSAGE_BYTES
    assert sum(batch.rows for _, batch in bench.publisher.sent) == len(chunk.data)


def test_a_row_that_fills_a_request_travels_alone() -> None:
    bench = Bench(speed=None)
    bench.send_all(rows(0, 0, size=MAX_MESSAGE_BYTES))
    assert [len(bodies) for _, bodies in bench.sent] == [1, 1]


# The cursor


def test_a_request_ends_behind_its_last_row_exact_to_the_row() -> None:
    bench = Bench(speed=None)
    bench.send_all(rows(0, 1, 1))
    bench.send_all(rows(1, 2))
    bench.send_all(rows(2, 2))
    second, two = T0 + SECOND, T0 + 2 * SECOND
    assert bench.ends == [Position(second, 2), Position(two, 1), Position(two, 3)]


def test_rows_of_the_starts_own_instant_are_counted_on() -> None:
    bench = Bench(speed=None, start=Position(T0, 4))
    bench.send_all(rows(0))
    assert bench.ends == [Position(T0, 5)]


def test_the_cursor_is_where_it_started_until_something_is_acknowledged() -> None:
    bench = Bench(start=Position(T0 - 1, 2))
    bench.send_all(rows(0))
    assert bench.sender.cursor == Position(T0 - 1, 2)
    assert "cursor" not in bench.sender.reached()
    bench.publisher.acknowledge()
    assert bench.sender.cursor == bench.sender.reached()["cursor"] == Position(T0, 1)


# What a checkpoint says


def test_before_the_first_row_is_known_nothing_is_said_of_what_is_due() -> None:
    resumed = Bench(timeline=Timeline(T0, NOW, 1.0))
    assert "next_due" not in resumed.sender.reached(), "what the replay before knew still holds"


def test_the_oldest_unacknowledged_row_is_due_next_then_the_one_to_be_sent() -> None:
    bench = Bench()
    chunk = rows(0, 1, 9)
    for at in (0, 1, 1, 1, 1, 1, 1):
        bench.sender.send(chunk, at)
    assert len(bench.sent) == 2
    assert bench.sender.reached()["next_due"] == from_us(NOW)
    bench.publisher.acknowledge()
    assert bench.sender.reached()["next_due"] == from_us(NOW + SECOND)
    bench.publisher.acknowledge()
    assert bench.sender.reached()["next_due"] == from_us(NOW + 9 * SECOND)


def test_while_the_source_is_read_nobody_knows_what_is_due_next() -> None:
    bench = Bench()
    bench.send_all(rows(0))
    bench.publisher.acknowledge()
    assert bench.sender.reached()["next_due"] is None


def test_rows_that_fell_due_before_it_came_are_owed() -> None:
    bench = Bench(start=Position(T0, 0), timeline=Timeline(T0, NOW - 10 * SECOND, 1.0))
    bench.send_all(rows(0, 4, 10, 10.5, 12))
    assert bench.sender.reached()["owed"] == 3
    assert bench.sent[0] == (0, [b"0", b"1", b"2"])
    assert [us for us, _ in bench.sent[1:]] == [SECOND // 2, 2 * SECOND], "the rest stay on time"


def test_a_replay_that_starts_afresh_owes_nothing() -> None:
    bench = Bench()
    bench.send_all(rows(0, 1, 2))
    assert bench.sender.reached()["owed"] == 0


def test_progress_says_how_many_rows_and_where() -> None:
    bench = Bench()
    assert bench.sender.describe() == "clicks: 0 rows published, cursor nothing acknowledged yet"
    bench.send_all(rows(0))
    bench.publisher.acknowledge()
    assert bench.sender.describe() == "clicks: 1 rows published, cursor 2021-05-01T00:00:00.000000Z (+1)"


# The timeline that is kept


OLD = Timeline(T0, NOW - 10 * SECOND, 2.0)


@pytest.mark.parametrize(
    ("timeline", "speed", "kept"),
    [
        (None, 1.0, None),
        (OLD, 2.0, OLD),
        (OLD, 60.0, Timeline(T0 + 20 * SECOND, NOW, 60.0)),
        (OLD, None, None),
        (Timeline(T0, NOW, None), 1.0, None),
    ],
    ids=["none", "the same speed", "another speed", "now max", "max before"],
)
def test_a_resumed_replay_keeps_the_pace_that_was_and_takes_the_speed_it_is_given(
    timeline: Timeline | None, speed: float | None, kept: Timeline | None
) -> None:
    assert keep_on(timeline, speed, NOW) == kept
