"""The live record: a stream's spec comes back whole, and what was made for it is not forgotten."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from docs.generate.dags import STREAMS
from rejeu.errors import StateError
from rejeu.spec.files import load_specs
from rejeu.spec.model import StreamSpec
from rejeu.state.documents import SideDocument, owner_of, stream_names
from rejeu.state.live_record import LiveRecord, read_record, recorded_streams, remember_live, spec_of
from rejeu.target import Target
from rejeu.testing import MemoryStore
from tests.fakes.crowded_store import CrowdedStore
from tests.spec.builders import spec_of as text_of

TARGET = Target(project="rejeu-test")
SPECS = [loaded.spec for loaded in load_specs([STREAMS]) if loaded.spec is not None]


def spec(**changes: Any) -> StreamSpec:
    return StreamSpec.model_validate(text_of("orders", **changes))


def remembered(store: MemoryStore, one: StreamSpec) -> LiveRecord:
    remember_live(store, one, TARGET)
    found = store.load(SideDocument.LIVE.of(one.stream))
    assert found is not None
    return LiveRecord.model_validate(json.loads(json.dumps(found.document)))


@pytest.mark.parametrize("one", SPECS, ids=lambda one: one.stream)
def test_every_stream_of_ours_comes_back_as_its_file_said_it(one: StreamSpec) -> None:
    assert spec_of(remembered(MemoryStore(), one)) == one


@pytest.mark.parametrize("silence", ["500ms", "1.5s", "5s", "90s", "2m", "1h", "36h", "1.234ms"])
def test_a_duration_comes_back_as_it_was(silence: str) -> None:
    one = spec(watchdog__silence=silence, watchdog__grace="1m")
    again = spec_of(remembered(MemoryStore(), one))
    assert (again.watchdog.silence, again.watchdog.grace) == (one.watchdog.silence, timedelta(minutes=1))


def test_a_subscription_of_the_topic_before_is_not_forgotten() -> None:
    store = MemoryStore()
    remembered(store, spec(watchdog__probe=["heartbeat", "tap"]))
    record = remembered(store, spec(live__topic="another"))
    first, tap, second = (name.rpartition("/")[2] for name in record.subscriptions)
    assert (first, tap, second) == ("topic_of_orders-orders", "topic_of_orders-orders-tap", "another-orders")


def test_what_is_made_for_a_batch_is_remembered_beside_the_spec_that_runs() -> None:
    store = MemoryStore()
    remembered(store, spec())
    remember_live(store, spec(live__topic="another"), TARGET, goes_live=False)
    record = read_record(store, "orders")
    assert record is not None
    assert spec_of(record) == spec()
    assert [name.rpartition("/")[2] for name in record.subscriptions] == ["topic_of_orders-orders", "another-orders"]


def test_nothing_is_written_where_nothing_has_changed() -> None:
    store = MemoryStore()
    remembered(store, spec())
    remembered(store, spec())
    found = store.load("orders.live")
    assert found is not None
    assert found.version == 1


def test_of_two_that_write_at_once_nothing_is_lost() -> None:
    store = CrowdedStore()
    store.between = lambda: remember_live(store, spec(live__topic="another"), TARGET)
    assert len(remembered(store, spec()).subscriptions) == 2


def test_what_a_newer_version_added_is_kept() -> None:
    store = MemoryStore()
    remember_live(store, spec(), TARGET)
    found = store.load("orders.live")
    assert found is not None
    store.save("orders.live", {**found.document, "newer": [1]}, found.version)
    assert remembered(store, spec(live__topic="another")).model_dump()["newer"] == [1]


def test_a_spec_that_this_version_cannot_read_is_told_with_what_helps() -> None:
    record = LiveRecord(spec={**text_of("orders"), "newer": True})
    with pytest.raises(StateError, match=r"live record of orders: newer: .*another Rejeu wrote it, or what it names"):
        spec_of(record)


def test_each_document_has_its_stream() -> None:
    names = ["a_b", "a_b-0-of-4", "a_b.live", "a_b-0-of-4.standby"]
    assert {owner_of(name) for name in names} == {"a_b"}
    assert recorded_streams(names) == ["a_b"]


def test_it_is_no_stream_of_its_own() -> None:
    store = MemoryStore()
    remember_live(store, spec(), TARGET)
    assert stream_names(store) == []
    assert read_record(store, "views") is None
