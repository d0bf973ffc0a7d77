"""The sender: never early, what is due together travels together, and what was reached is never more than is known.

Pauses and changes of speed are in `test_sender_pace`.
"""

import pytest

from rejeu.message import MAX_MESSAGE_BYTES, MAX_REQUEST_MESSAGES
from rejeu.replay.send.sender import MAX_KEY_REQUEST_BYTES, keep_on
from rejeu.timeline import Position, Timeline, from_us
from tests.fakes.replay_clock import NOW, SECOND
from tests.replay.rows import T0, chunk_of, rows_of
from tests.replay.send.sender_rig import SenderRig, rows

# Pace


def test_rows_are_sent_when_they_are_due_and_never_before() -> None:
    rig = SenderRig(speed=1.0)
    rig.send_all(rows(0, 0.01, 1, 2.5))
    assert rig.sent == [(0, [b"0"]), (0.01 * SECOND, [b"1"]), (1 * SECOND, [b"2"]), (2.5 * SECOND, [b"3"])]


def test_a_greater_speed_is_a_greater_rate() -> None:
    rig = SenderRig(speed=60.0)
    rig.send_all(rows(0, 60, 150))
    assert [us for us, _ in rig.sent] == [0, 1 * SECOND, 2.5 * SECOND]


def test_a_speed_below_one_is_slower_than_life() -> None:
    rig = SenderRig(speed=0.5)
    rig.send_all(rows(0, 1))
    assert [us for us, _ in rig.sent] == [0, 2 * SECOND]


def test_at_speed_max_nothing_is_waited_for() -> None:
    rig = SenderRig(speed=None)
    rig.send_all(rows(0, 3600, 7200))
    assert rig.sent == [(0, [b"0", b"1", b"2"])]
    assert rig.sender.lateness.milliseconds() is None


def test_rows_of_a_few_milliseconds_travel_together() -> None:
    rig = SenderRig(speed=1.0)
    rig.send_all(rows(0, 0.001, 0.002, 0.0029, 0.5))
    assert [bodies for _, bodies in rig.sent] == [[b"0"], [b"1", b"2", b"3"], [b"4"]]


def test_time_begins_at_the_start_that_was_asked_for_and_not_at_the_first_row_after_it() -> None:
    rig = SenderRig(start=Position(T0 - 5 * SECOND))
    rig.send_all(rows(0))
    assert [us for us, _ in rig.sent] == [5 * SECOND]


def test_how_late_rows_were_is_counted() -> None:
    rig = SenderRig(timeline=Timeline(T0, NOW - SECOND, 1.0))
    rig.send_all(rows(0, 0.5))
    assert rig.sender.lateness.milliseconds() == pytest.approx({"p50": 500, "p99": 1000, "max": 1000}, rel=0.03)


def test_no_room_means_no_request_and_the_same_row_again() -> None:
    rig = SenderRig()
    rig.publisher.room = False
    assert rig.sender.send(rows(0, 1), 0) == 0
    rig.publisher.room = True
    assert rig.sender.send(rows(0, 1), 0) == 1


# Requests


def test_a_request_has_no_more_messages_than_pubsub_takes() -> None:
    rig = SenderRig(speed=None)
    rig.send_all(rows(*[0] * (2 * MAX_REQUEST_MESSAGES + 1)))
    assert [len(bodies) for _, bodies in rig.sent] == [MAX_REQUEST_MESSAGES, MAX_REQUEST_MESSAGES, 1]


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES // 400, MAX_MESSAGE_BYTES // 10, MAX_MESSAGE_BYTES // 2 - 100])
@pytest.mark.parametrize("stream", ["clicks", "c" * 63])
def test_a_request_has_no_more_bytes_than_pubsub_takes(size: int, stream: str) -> None:
    rig = SenderRig(speed=None, stream=stream)
    long_id = f"{stream}/{T0}/" + "\N{ROCKET}" * 200
    many = [(T0, long_id, data) for _, _, data in rows_of(rows(*[0] * (2 * MAX_MESSAGE_BYTES // size), size=size))]
    rig.send_all(chunk_of(many))
    assert max(len(request.body) for _, batch in rig.publisher.sent for request in batch.requests) <= MAX_MESSAGE_BYTES
    assert sum(batch.rows for _, batch in rig.publisher.sent) == len(many)


def test_a_row_that_fills_a_request_travels_alone() -> None:
    rig = SenderRig(speed=None)
    rig.send_all(rows(0, 0, size=MAX_MESSAGE_BYTES))
    assert [len(bodies) for _, bodies in rig.sent] == [1, 1]


def test_rows_with_ordering_keys_travel_in_a_request_for_each_key_in_their_order() -> None:
    rig = SenderRig(speed=None)
    rig.send_all(rows(0, 1, 2, 3, 4, ordering="abacb"))
    [(_, batch)] = rig.publisher.sent
    assert [(request.key, rig.bodies(request)) for request in batch.requests] == [
        ("a", [b"0", b"2"]),
        ("b", [b"1", b"4"]),
        ("c", [b"3"]),
    ]
    assert [request.rows for request in batch.requests] == [2, 2, 1]
    assert (batch.rows, batch.end()) == (5, Position(T0 + 4 * SECOND, 1))


def test_rows_whose_ordering_key_is_empty_have_none_and_wait_for_no_other() -> None:
    rig = SenderRig(speed=None)
    rig.send_all(rows(0, 1, ordering=["", "a"]))
    [(_, batch)] = rig.publisher.sent
    assert [request.key for request in batch.requests] == ["", "a"]


def test_a_request_of_an_ordering_key_has_no_more_than_a_second_of_what_pubsub_takes_of_it() -> None:
    rig = SenderRig(speed=None)
    rig.send_all(rows(*[0] * 20, size=MAX_KEY_REQUEST_BYTES // 4, ordering=["large"] * 16 + ["other"] * 4))
    [(_, batch)] = rig.publisher.sent
    sent = [(request.key, request.rows) for request in batch.requests]
    assert sent == [("large", 3)] * 5 + [("large", 1), ("other", 3), ("other", 1)]
    assert max(len(request.body) for request in batch.requests) < MAX_KEY_REQUEST_BYTES + 1_000
    large = [body.strip() for request in batch.requests[:6] for body in rig.bodies(request)]
    assert large == [b"%d" % number for number in range(16)]


# The cursor


def test_a_request_ends_behind_its_last_row_exact_to_the_row() -> None:
    rig = SenderRig(speed=None)
    whole = rows(0, 1, 1, 2, 2, 2)
    for start, end in ((0, 2), (2, 4), (4, 6)):
        rig.send_all(whole.part(start, end))
    second, two = T0 + SECOND, T0 + 2 * SECOND
    assert rig.ends == [Position(second, 1), Position(two, 1), Position(two, 3)]


def test_rows_of_the_starts_own_instant_are_counted_on() -> None:
    rig = SenderRig(speed=None, start=Position(T0, 4))
    rig.send_all(rows(0, 0, 0, 0, 0).part(4, 5))
    assert rig.ends == [Position(T0, 5)]


def test_a_chunk_may_be_sent_from_its_middle_on() -> None:
    rig = SenderRig(speed=None, start=Position(T0, 2))
    rig.send_all(rows(0, 0, 0, 1), at=2)
    assert (rig.sent, rig.ends) == ([(0, [b"2", b"3"])], [Position(T0 + SECOND, 1)])


def test_the_cursor_is_where_it_started_until_something_is_acknowledged() -> None:
    rig = SenderRig(start=Position(T0 - 1, 2))
    rig.send_all(rows(0))
    assert rig.sender.cursor == Position(T0 - 1, 2)
    assert "cursor" not in rig.sender.reached()
    rig.publisher.acknowledge()
    assert rig.sender.cursor == rig.sender.reached()["cursor"] == Position(T0, 1)


# What a checkpoint says


def test_before_the_first_row_is_known_nothing_is_said_of_what_is_due() -> None:
    resumed = SenderRig(timeline=Timeline(T0, NOW, 1.0))
    assert "next_due" not in resumed.sender.reached(), "what the replay before knew still holds"


def test_the_oldest_unacknowledged_row_is_due_next_then_the_one_to_be_sent() -> None:
    rig = SenderRig()
    chunk = rows(0, 1, 9)
    for at in (0, 1, 1, 1, 1, 1, 1):
        rig.sender.send(chunk, at)
    assert len(rig.sent) == 2
    assert rig.sender.reached()["next_due"] == from_us(NOW)
    rig.publisher.acknowledge()
    assert rig.sender.reached()["next_due"] == from_us(NOW + SECOND)
    rig.publisher.acknowledge()
    assert rig.sender.reached()["next_due"] == from_us(NOW + 9 * SECOND)


def test_while_the_source_is_read_nobody_knows_what_is_due_next() -> None:
    rig = SenderRig()
    rig.send_all(rows(0))
    rig.publisher.acknowledge()
    assert rig.sender.reached()["next_due"] is None


def test_rows_that_fell_due_before_it_came_are_owed() -> None:
    rig = SenderRig(start=Position(T0, 0), timeline=Timeline(T0, NOW - 10 * SECOND, 1.0))
    rig.send_all(rows(0, 4, 10, 10.5, 12))
    assert rig.sender.reached()["owed"] == 3
    assert rig.sent[0] == (0, [b"0", b"1", b"2"])
    assert [us for us, _ in rig.sent[1:]] == [SECOND // 2, 2 * SECOND], "the rest stay on time"


def test_a_replay_that_starts_afresh_owes_nothing() -> None:
    rig = SenderRig()
    rig.send_all(rows(0, 1, 2))
    assert rig.sender.reached()["owed"] == 0


def test_progress_says_how_many_rows_and_where() -> None:
    rig = SenderRig()
    assert rig.sender.describe() == "clicks: 0 rows published, cursor nothing acknowledged yet"
    rig.send_all(rows(0))
    rig.publisher.acknowledge()
    assert rig.sender.describe() == "clicks: 1 rows published, cursor 2021-05-01T00:00:00.000000Z (+1)"


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
