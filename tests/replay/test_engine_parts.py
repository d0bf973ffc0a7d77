"""Ordering keys and shards from start to end: what of a stream stays together, and in which order it arrives."""

from __future__ import annotations

from collections import defaultdict

import grpc
import pytest

from rejeu.errors import PublishError
from rejeu.jobs.request import CURSOR
from rejeu.state.lease import read_state
from rejeu.timeline import Position
from tests.fakes.breaking_store import Store
from tests.fakes.broker import UNAVAILABLE, FakeBroker, refuse
from tests.fakes.replay_clock import SECOND, FakeClock
from tests.replay.rows import STREAM, T0, MakeReplay, bodies, body

ORDERED = {"key": ("k", "n"), "ordering_key": ("k",)}
EVEN, ODD = [body(number) for number in range(0, 10, 2)], [body(number) for number in range(1, 10, 2)]


def by_key(broker: FakeBroker) -> dict[str, list[bytes]]:
    """What arrived of each ordering key for the first time, in that order."""
    found: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
    for message in broker.got:
        found[message.ordering_key].setdefault(message.attributes["row_id"], message.data)
    return {key: list(rows.values()) for key, rows in found.items()}


def test_rows_of_an_ordering_key_arrive_in_their_order_though_the_broker_fails_between(
    broker: FakeBroker, replay: MakeReplay
) -> None:
    broker.on(body(0), UNAVAILABLE, UNAVAILABLE)
    broker.on(body(4), UNAVAILABLE, refuse(grpc.StatusCode.INTERNAL))
    assert replay(FakeClock(), speed=1, **ORDERED).run().published == 10
    assert by_key(broker) == {"a": EVEN, "b": ODD}
    assert broker.bodies == bodies(*range(10))


def test_at_speed_max_the_rows_of_a_key_travel_together(broker: FakeBroker, replay: MakeReplay) -> None:
    assert replay(**ORDERED).run().published == 10
    assert by_key(broker) == {"a": EVEN, "b": ODD}
    assert broker.attempts < 5


def test_a_key_that_failed_for_good_is_gone_on_with_in_its_order(
    broker: FakeBroker, store: Store, replay: MakeReplay
) -> None:
    broker.on(body(4), refuse(grpc.StatusCode.INVALID_ARGUMENT, "bad day"))
    with pytest.raises(PublishError, match="bad day"):
        replay(FakeClock(), speed=1, **ORDERED).run()
    assert store.stream.cursor is not None
    assert store.stream.cursor <= Position(T0 + 3 * SECOND, 1)
    replay(from_=CURSOR, **ORDERED).run()
    assert by_key(broker) == {"a": EVEN, "b": ODD}


def test_without_an_ordering_key_messages_have_none(broker: FakeBroker, replay: MakeReplay) -> None:
    replay().run()
    assert set(by_key(broker)) == {""}


def test_the_shards_of_a_stream_publish_every_row_once_each_with_a_cursor_of_its_own(
    broker: FakeBroker, store: Store, replay: MakeReplay
) -> None:
    found = [replay(shard=f"{index}/3").run() for index in range(3)]
    assert broker.bodies == bodies(*range(10))
    assert sum(report.published for report in found) == 10
    assert store.names() == [f"{STREAM}-{index}-of-3" for index in range(3)]
    for index, report in enumerate(found):
        state = read_state(store, f"{STREAM}-{index}-of-3")
        assert state is not None
        assert (state.published, state.epoch) == (report.published, 1)


def test_a_shard_goes_on_at_its_own_cursor_and_row_ids_are_the_streams(
    broker: FakeBroker, store: Store, replay: MakeReplay
) -> None:
    for until in ("2021-05-01T00:00:05Z", None):
        for index in range(2):
            replay(shard=f"{index}/2", from_=CURSOR, until=until).run()
    assert broker.bodies == bodies(*range(10))
    assert {message.attributes["row_id"] for message in broker.got} == {
        f"{STREAM}/{T0 + number * SECOND}/{number}/0" for number in range(10)
    }
