"""What `live` refuses to share with a stream of the state store, whose spec may be broken, renamed or gone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Semaphore
from typing import Any

import pytest

from rejeu.errors import RequestError
from rejeu.jobs.build import replay_request
from rejeu.ports import StateStore
from rejeu.spec.model import StreamSpec
from rejeu.state.apart import check_apart, go_live_apart
from rejeu.state.documents import SideDocument
from rejeu.state.lease import read_state, update_state
from rejeu.state.live_record import remember_live
from rejeu.state.model import StreamState
from rejeu.state.sqlite import SqliteStore
from rejeu.state.stream import announce, mark_unwanted, mark_wanted
from rejeu.target import Target
from rejeu.testing import MemoryStore
from rejeu.timeline import Position
from tests.spec.builders import spec_of

TARGET = Target(project="rejeu-test")
SECONDS = 60.0


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def spec(stream: str, **changes: Any) -> StreamSpec:
    return StreamSpec.model_validate(spec_of(stream, **changes))


def went_live(store: MemoryStore, one: StreamSpec) -> None:
    """Let a stream be as its live DAG leaves it."""
    remember_live(store, one, TARGET)
    if one.replay is None:
        mark_wanted(store, one.stream)
    else:
        announce(store, replay_request(one, TARGET, None, None))


def reached(store: MemoryStore, stream: str) -> None:
    update_state(store, stream, lambda state: state.model_copy(update={"cursor": Position(7)}))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"live__topic": "topic_of_orders"}, "live.topic"),
        ({"live__table": "orders.rows"}, "live.table"),
        ({"live__view": "orders.rows"}, "live.view"),
        ({"batch__table": "orders.days"}, "batch.table"),
    ],
)
def test_what_a_wanted_stream_feeds_is_refused_whether_or_not_it_has_a_spec(
    store: MemoryStore, changes: dict[str, Any], field: str
) -> None:
    went_live(store, spec("orders"))
    with pytest.raises(RequestError) as refused:
        check_apart(store, spec("purchases", **changes), TARGET)
    said = str(refused.value)
    assert said.startswith(f"purchases: {field}: the ")
    assert "of the stream orders, which is wanted: it was renamed, or another folder of specs has it. " in said
    assert said.endswith("`rejeu orphans orders --remove` stops and forgets it, and leaves its tables")


def test_a_stream_does_not_stand_in_its_own_way(store: MemoryStore) -> None:
    went_live(store, spec("orders"))
    reached(store, "orders")
    check_apart(store, spec("orders", live__topic="another-topic"), TARGET)


def test_streams_that_share_nothing_are_left_alone(store: MemoryStore) -> None:
    went_live(store, spec("orders"))
    check_apart(store, spec("purchases"), TARGET)


def test_a_topic_is_free_again_once_its_stream_is_stopped(store: MemoryStore) -> None:
    went_live(store, spec("orders"))
    mark_unwanted(store, "orders")
    check_apart(store, spec("purchases", live__topic="topic_of_orders"), TARGET)


def test_a_table_with_the_rows_of_another_name_is_refused_even_after_its_stop(store: MemoryStore) -> None:
    went_live(store, spec("orders"))
    reached(store, "orders")
    mark_unwanted(store, "orders")
    with pytest.raises(RequestError, match="whose rows are there: under another stream's name each has another id"):
        check_apart(store, spec("purchases", live__table="orders.rows"), TARGET)


def test_whoever_only_reads_a_topic_that_another_stream_publishes_may(store: MemoryStore) -> None:
    went_live(store, spec("orders"))
    check_apart(store, spec("audit", live__topic="topic_of_orders", replay=None, watchdog__probe="tap"), TARGET)


def test_a_replay_by_hand_that_publishes_just_now_keeps_its_topic(store: MemoryStore) -> None:
    request = replay_request(spec("orders"), TARGET, None, None)
    announce(store, request)

    def holding(seconds: float) -> None:
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        taken = {"holder": "host:7:x", "lease_until": until, "request": tuple(request.to_argv()), "announced": ()}
        update_state(store, "orders", lambda state: state.model_copy(update=taken))

    holding(3600)
    with pytest.raises(RequestError, match=r"by hand, orders, publishes to projects/rejeu-test/topics/topic_of_orders"):
        check_apart(store, spec("purchases", live__topic="topic_of_orders"), TARGET)
    holding(-1)
    check_apart(store, spec("purchases", live__topic="topic_of_orders"), TARGET)


def test_a_document_that_cannot_be_read_keeps_nobody_from_going_live(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(SideDocument.LIVE.of("bikes"), {"spec": {"stream": "bikes", "newer": True}}, None)
    store.save("clicks", {"epoch": "many"}, None)
    went_live(store, spec("orders"))
    with pytest.raises(RequestError, match="stream orders"):
        check_apart(store, spec("purchases", live__topic="topic_of_orders"), TARGET)
    assert "bikes: whether it shares something is not known" in caplog.text


# At the same moment


@pytest.mark.parametrize("changes", [{"live__topic": "shared"}, {"live__table": "shared.rows"}])
@pytest.mark.parametrize("names", [("orders", "purchases"), ("purchases", "orders"), ("bikes", "clicks", "orders")])
def test_of_streams_that_go_live_at_once_one_stays(
    tmp_path: Path, names: tuple[str, ...], changes: dict[str, Any]
) -> None:
    all_have_checked = Barrier(len(names))
    others_withdrew = Semaphore(0)

    def live(name: str) -> str | None:
        own = SqliteStore(tmp_path / "state.db")
        one = spec(name, **changes)
        remember_live(own, one, TARGET)
        check_apart(own, one, TARGET)
        all_have_checked.wait(SECONDS)

        def want() -> None:
            announce(own, replay_request(one, TARGET, None, None))
            all_have_checked.wait(SECONDS)

        try:
            go_live_apart(own, one, TARGET, want, lambda _: assert_comes(others_withdrew))
        except RequestError as error:
            others_withdrew.release()
            return str(error)
        return None

    with ThreadPoolExecutor(len(names)) as pool:
        said = dict(zip(names, pool.map(live, names), strict=True))
    states = SqliteStore(tmp_path / "state.db")
    first, *later = sorted(names)
    assert [name for name in names if said[name] is None] == [first]
    assert [name for name in names if state_of(states, name).wanted] == [first]
    for name in later:
        assert f"of the stream {first}, which is wanted" in (said[name] or "")


def test_whoever_does_not_withdraw_was_there_before(store: MemoryStore) -> None:
    went_live(store, spec("purchases", live__topic="shared"))
    looks: list[float] = []
    one = spec("orders", live__topic="shared")
    with pytest.raises(RequestError, match=r"of the stream purchases, which is wanted.*; orders\.stop ends its"):
        go_live_apart(store, one, TARGET, lambda: went_live(store, one), looks.append)
    assert 5 <= sum(looks) <= 60
    assert not state_of(store, "orders").wanted
    assert state_of(store, "purchases").wanted


def assert_comes(semaphore: Semaphore) -> None:
    assert semaphore.acquire(timeout=SECONDS)


def state_of(store: StateStore, stream: str) -> StreamState:
    found = read_state(store, stream)
    assert found is not None
    return found
