"""Which streams are orphans: those that no valid spec declares, but none that a broken file may be about."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from rejeu.errors import RequestError
from rejeu.jobs.build import replay_request
from rejeu.orphans.finding import Orphan, find_orphans, left_subscriptions, live_orphans
from rejeu.spec.files import load_specs
from rejeu.spec.model import StreamSpec
from rejeu.state.lease import Lease, update_state
from rejeu.state.live_record import remember_live
from rejeu.state.standby_marker import mark_standby
from rejeu.state.stream import announce, mark_unwanted
from rejeu.target import Target
from rejeu.testing import MemoryStore
from tests.spec.builders import spec_of

TARGET = Target(project="rejeu-test")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the spec of a stream `views`."""
    write(tmp_path, "views")
    return tmp_path


def write(folder: Path, stream: str, **changes: Any) -> StreamSpec:
    document = spec_of(stream, **changes)
    (folder / f"{stream}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return StreamSpec.model_validate(document)


def go_live(store: MemoryStore, stream: str, **changes: Any) -> StreamSpec:
    spec = StreamSpec.model_validate(spec_of(stream, **changes))
    remember_live(store, spec, TARGET)
    announce(store, replay_request(spec, TARGET, None, None))
    return spec


def found(store: MemoryStore, folder: Path) -> list[Orphan]:
    return find_orphans(store, load_specs([folder]))


def test_a_stream_without_a_spec_is_one_with_all_its_documents(store: MemoryStore, folder: Path) -> None:
    go_live(store, "views")
    go_live(store, "orders")
    mark_standby(store, "orders", "host:7", datetime.now(UTC))
    update_state(store, "orders-0-of-2", lambda state: state)
    [orphan] = found(store, folder)
    assert (orphan.stream, orphan.is_live, orphan.broken) == ("orders", True, None)
    assert orphan.documents == ("orders", "orders-0-of-2", "orders.live", "orders.standby")
    assert live_orphans(store, ["views"]) == ["orders"]


def test_what_the_patrol_remembers_is_no_stream(store: MemoryStore, folder: Path) -> None:
    store.save(".patrol", {}, None)
    assert found(store, folder) == []


def test_one_that_was_stopped_is_not_live(store: MemoryStore, folder: Path) -> None:
    go_live(store, "orders")
    mark_unwanted(store, "orders")
    assert [orphan.is_live for orphan in found(store, folder)] == [False]


@pytest.mark.parametrize(("seconds", "live"), [(60, True), (0, False)])
def test_a_replay_by_hand_is_live_while_it_publishes(
    store: MemoryStore, folder: Path, seconds: float, live: bool
) -> None:
    Lease.acquire(store, "adhoc", "host:7:x", seconds)
    assert [orphan.is_live for orphan in found(store, folder)] == [live]


def test_one_whose_document_cannot_be_read_is_held_to_be_live(store: MemoryStore, folder: Path) -> None:
    store.save("orders", {"epoch": "many"}, None)
    assert [orphan.is_live for orphan in found(store, folder)] == [True]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("orders.yaml", "stream: ["),
        ("shop.yaml", "stream: orders\ncolour: red\n"),
        ("shop.yml", "stream: 'orders'\n\tlive: x\n"),
        ("orders.yaml", ""),
    ],
)
def test_a_broken_file_that_may_be_its_spec_keeps_it(store: MemoryStore, folder: Path, name: str, text: str) -> None:
    go_live(store, "orders")
    (folder / name).write_text(text, encoding="utf-8")
    assert [orphan.broken for orphan in found(store, folder)] == [folder / name]


def test_another_ones_broken_file_keeps_it_not(store: MemoryStore, folder: Path) -> None:
    go_live(store, "orders")
    (folder / "shop.yaml").write_text("stream: my_orders\nlive: {table: orders_2}\n: [", encoding="utf-8")
    assert [orphan.broken for orphan in found(store, folder)] == [None]


def test_a_broken_file_that_nobody_can_read_may_be_anybodys(store: MemoryStore, folder: Path) -> None:
    go_live(store, "orders")
    (folder / "shop.yaml").symlink_to(folder / "nowhere")
    assert [orphan.broken for orphan in found(store, folder)] == [folder / "shop.yaml"]


def test_two_specs_that_clash_are_no_orphans_to_be_removed(store: MemoryStore, folder: Path) -> None:
    go_live(store, "views")
    write(folder, "other", live__table="views.rows")
    assert [(orphan.stream, orphan.broken) for orphan in found(store, folder)] == [("views", folder / "other.yaml")]


def test_a_folder_without_a_spec_is_the_wrong_one(store: MemoryStore, tmp_path: Path) -> None:
    go_live(store, "orders")
    with pytest.raises(RequestError, match="every stream of the state store would be an orphan; name the folder"):
        found(store, tmp_path)


@pytest.mark.parametrize("where", ["spec", "store"])
def test_the_twin_of_one_may_be_another_streams_replay(store: MemoryStore, folder: Path, where: str) -> None:
    go_live(store, "orders")
    if where == "spec":
        write(folder, "orders_twin")
    else:
        go_live(store, "orders_twin")
    assert [orphan.has_twin for orphan in found(store, folder) if orphan.stream == "orders"] == [False]


def test_a_subscription_of_a_topic_before_is_left_once_the_stream_went_live_with_another(
    store: MemoryStore, folder: Path
) -> None:
    go_live(store, "views")
    spec = write(folder, "views", live__topic="another")
    assert left_subscriptions(store, [spec], TARGET) == [], "what runs still reads the topic before"
    remember_live(store, spec, TARGET)
    assert left_subscriptions(store, [spec], TARGET) == [], "a replay that lives was adopted, with its topic"
    go_live(store, "views", live__topic="another")
    assert left_subscriptions(store, [spec], TARGET) == [("views", TARGET.subscription("topic_of_views-views"))]
