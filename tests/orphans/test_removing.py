"""What belongs to an orphan, and its end: stopped in order, removed whole, and nothing of another stream."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from google.api_core.exceptions import Forbidden, NotFound
from google.pubsub_v1.types import Subscription

from rejeu import cli
from rejeu.cli import homes
from rejeu.errors import LaunchError, RequestError
from rejeu.gcp import clients
from rejeu.jobs.build import replay_request, standby_request, stream_job_request
from rejeu.launchers import choose
from rejeu.ports import JobState
from rejeu.spec.model import StreamSpec
from rejeu.state.lease import Lease, read_state, update_state
from rejeu.state.live_record import read_record, remember_live
from rejeu.state.sqlite import SqliteStore
from rejeu.state.standby_marker import mark_standby
from rejeu.state.stream import announce, mark_unwanted
from rejeu.target import KEPT, Left, Target
from rejeu.testing import FakeLauncher
from tests.spec.builders import spec_of

NOW = datetime.now(UTC)
OLD = NOW - KEPT - timedelta(days=1)
REPLAY, TWIN, JOB = "rejeu-replay-orders", "rejeu-replay-orders-twin", "rejeu-stream-orders"


class FakeSubscriber:
    """The subscriptions that there are; the real server is asked in `tests/emulated/test_orphans.py`."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.forbids = False

    def get_subscription(self, subscription: str, timeout: float) -> Subscription:
        self._look_for(subscription)
        return Subscription(name=subscription)

    def delete_subscription(self, subscription: str, timeout: float) -> None:
        self._look_for(subscription)
        if self.forbids:
            raise Forbidden("not you")  # type: ignore[no-untyped-call]
        self.there.remove(subscription)

    def _look_for(self, subscription: str) -> None:
        if subscription not in self.there:
            raise NotFound(subscription)  # type: ignore[no-untyped-call]


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    target = Target(project="rejeu-test", state=f"sqlite:{tmp_path}/state.db", home=tmp_path / "home")
    monkeypatch.setattr(homes, "target", lambda: target)
    return target


@pytest.fixture
def store(target: Target, tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "state.db")


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    fake = FakeLauncher()
    for name in ("replay_launcher", "job_launcher"):
        monkeypatch.setattr(choose, name, lambda target: fake)
    return fake


@pytest.fixture
def subscriber(monkeypatch: pytest.MonkeyPatch) -> FakeSubscriber:
    fake = FakeSubscriber()
    monkeypatch.setattr(clients, "subscriber_client", lambda: fake)
    return fake


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the streaming job was given to write what it was sent."""
    waits: list[float] = []
    monkeypatch.setattr("rejeu.cli.orphans.time", SimpleNamespace(sleep=waits.append))
    return waits


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of specs, which has one of a stream `views`."""
    streams = tmp_path / "dags" / "streams"
    streams.mkdir(parents=True)
    (streams / "views.yaml").write_text(yaml.safe_dump(spec_of("views")), encoding="utf-8")
    monkeypatch.setenv("REJEU_DAGS", str(tmp_path / "dags"))
    return streams


GoLive = Callable[..., StreamSpec]
Say = Callable[..., str]


@pytest.fixture
def go_live(
    store: SqliteStore, target: Target, launcher: FakeLauncher, subscriber: FakeSubscriber, slept: list[float]
) -> GoLive:
    """Let a stream be as its live DAG leaves it, whole."""

    def start(stream: str, **changes: Any) -> StreamSpec:
        spec = StreamSpec.model_validate(spec_of(stream, replay__standby=True, reconcile__settle="7s", **changes))
        remember_live(store, spec, target)
        request = replay_request(spec, target, None, None)
        announce(store, request)
        mark_standby(store, stream, "host:8", NOW)
        for each in (request, standby_request(request), stream_job_request(spec, target)):
            launcher.start(each)
            launcher.end(each.job_name, JobState.RUNNING)
        subscriber.there.add(target.subscription(spec.subscription))
        for kind in Left:
            left = Path(target.left_by(kind)) / stream
            left.mkdir(parents=True)
            (left / "file").touch()
        return spec

    return start


@pytest.fixture
def orphans(folder: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """What the command says; it must end with this code."""

    def run(*argv: str, code: int = 0) -> str:
        assert cli.main(["orphans", *argv]) == code
        return "".join(capsys.readouterr())

    return run


def left_of(stream: str, store: SqliteStore, target: Target, subscriber: FakeSubscriber) -> list[str]:
    """Whatever is still called after the stream."""
    files = [path.name for kind in Left for path in Path(target.left_by(kind)).glob(stream)]
    return [*(name for name in store.names() if name.partition(".")[0] == stream), *files, *subscriber.there]


# What is said


def test_where_each_stream_has_its_spec_nothing_is_orphaned(go_live: GoLive, orphans: Say) -> None:
    go_live("views")
    assert orphans() == "nothing is orphaned: each stream of the state store has its spec\n"


def test_an_orphan_is_told_with_all_that_belongs_to_it(
    go_live: GoLive, orphans: Say, target: Target, launcher: FakeLauncher, store: SqliteStore
) -> None:
    go_live("orders")
    before = store.names()
    assert orphans().splitlines() == [
        "orders: no spec declares it; it is live",
        f"  jobs: {TWIN} (running), {REPLAY} (running), {JOB} (running)",
        "  subscriptions: projects/rejeu-test/subscriptions/topic_of_orders-orders",
        f"  files: {target.home}/staging/orders (1), {target.home}/reconciliations/orders (1)",
        "  documents: orders, orders.live, orders.standby",
        "Nothing was changed: --remove stops and removes what is listed. Topics and tables stay.",
    ]
    assert (launcher.stopped, store.names()) == ([], before)


def test_a_name_that_nobody_knows_is_refused(go_live: GoLive, orphans: Say) -> None:
    go_live("orders")
    assert "'order' is no stream of the state store" in orphans("order", code=RequestError.exit_code)


# What is removed


def test_all_of_it_goes_and_in_order(
    go_live: GoLive,
    orphans: Say,
    store: SqliteStore,
    target: Target,
    launcher: FakeLauncher,
    subscriber: FakeSubscriber,
    slept: list[float],
) -> None:
    go_live("orders")
    said = orphans("orders", "--remove")
    assert launcher.stopped == [TWIN, REPLAY, JOB]
    assert slept == [7.0], "rows that were published last are written"
    assert left_of("orders", store, target, subscriber) == []
    assert (
        said.index("orders: no spec declares it") < said.index("stopping and removing all of it") < said.index("done")
    )


def test_nothing_of_another_stream_goes(
    go_live: GoLive,
    orphans: Say,
    store: SqliteStore,
    target: Target,
    launcher: FakeLauncher,
    subscriber: FakeSubscriber,
) -> None:
    for stream in ("views", "orders", "orders_2", "my_orders"):
        go_live(stream)
    orphans("orders", "--remove")
    assert {name.partition(".")[0] for name in store.names()} == {"views", "orders_2", "my_orders"}
    assert len(subscriber.there) == 3
    assert [name for name in launcher.stopped if not name.startswith((REPLAY, JOB))] == []
    assert [path.name for path in sorted(Path(target.left_by(Left.STAGING)).iterdir())] == [
        "my_orders",
        "orders_2",
        "views",
    ]


def test_the_replay_that_its_twin_would_be_called_is_left_alone(
    go_live: GoLive, orphans: Say, launcher: FakeLauncher, folder: Path
) -> None:
    go_live("orders")
    (folder / "orders_twin.yaml").write_text(yaml.safe_dump(spec_of("orders_twin")), encoding="utf-8")
    orphans("orders", "--remove")
    assert launcher.stopped == [REPLAY, JOB]


def test_a_live_one_that_is_not_named_is_kept(
    go_live: GoLive, orphans: Say, store: SqliteStore, launcher: FakeLauncher
) -> None:
    go_live("orders")
    go_live("clicks")
    mark_unwanted(store, "clicks")
    said = orphans("--remove")
    assert "kept: it is live; `rejeu orphans orders --remove` stops and removes it" in said
    assert store.names() == ["orders", "orders.live", "orders.standby"]
    assert REPLAY not in launcher.stopped


@pytest.mark.parametrize("argv", [["--remove"], ["orders", "--remove"]])
def test_one_whose_spec_is_broken_is_kept_even_where_it_is_named(
    go_live: GoLive, orphans: Say, store: SqliteStore, folder: Path, argv: list[str]
) -> None:
    go_live("orders")
    (folder / "orders.yaml").write_text("stream: orders\ncolour: red\n", encoding="utf-8")
    mark_unwanted(store, "orders")
    assert f"kept: it may be the stream of {folder}/orders.yaml" in orphans(*argv)
    assert "orders" in store.names()


def test_a_replay_by_hand_that_ended_goes_with_its_shards(orphans: Say, store: SqliteStore, go_live: GoLive) -> None:
    for name in ("adhoc", "adhoc-0-of-2", "adhoc-1-of-2"):
        Lease.acquire(store, name, "host:7:x", 0.0)
    orphans("--remove")
    assert store.names() == []


def test_what_cannot_be_stopped_keeps_its_documents_and_no_other_from_its_end(
    go_live: GoLive, orphans: Say, store: SqliteStore, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_live("clicks")
    go_live("orders")
    stop = launcher.stop

    def refuse(name: str, *, drain: bool = True) -> Any:
        if "clicks" in name:
            raise LaunchError(f"{name} does not end")
        return stop(name, drain=drain)

    monkeypatch.setattr(launcher, "stop", refuse)
    said = orphans("clicks", "orders", "--remove", code=LaunchError.exit_code)
    assert "clicks: not all of it was removed: rejeu-replay-clicks-twin does not end" in said
    assert {"clicks", "clicks.live"} <= set(store.names())
    assert "orders" not in store.names()
    state = read_state(store, "clicks")
    assert state is not None
    assert not state.wanted, "nobody repairs what is about to go"


def test_what_was_interrupted_is_done_by_the_next_one(
    go_live: GoLive, orphans: Say, store: SqliteStore, target: Target, subscriber: FakeSubscriber
) -> None:
    go_live("orders")
    subscriber.forbids = True
    assert "grant roles/pubsub.editor" in orphans("orders", "--remove", code=RequestError.exit_code)
    assert read_record(store, "orders") is not None
    subscriber.forbids = False
    orphans("--remove")
    assert left_of("orders", store, target, subscriber) == []


def test_a_stream_from_before_there_were_records_goes_with_its_subscription(
    go_live: GoLive, orphans: Say, store: SqliteStore, target: Target, subscriber: FakeSubscriber
) -> None:
    spec = go_live("orders")
    found = store.load("orders.live")
    assert found is not None
    store.remove("orders.live", found.version)
    argv = tuple(replay_request(spec, target, None, None).to_argv())
    update_state(store, "orders", lambda state: state.model_copy(update={"request": argv, "announced": ()}))
    orphans("orders", "--remove")
    assert left_of("orders", store, target, subscriber) == []


# What is left of streams that have a spec, or of which nothing is known


def test_a_subscription_of_the_topic_before_goes(
    go_live: GoLive, orphans: Say, store: SqliteStore, target: Target, subscriber: FakeSubscriber, folder: Path
) -> None:
    old = target.subscription("topic_of_views-views")
    spec = StreamSpec.model_validate(spec_of("views", live__topic="another"))
    go_live("views")
    remember_live(store, spec, target)
    announce(store, replay_request(spec, target, None, None))
    subscriber.there.add(target.subscription(spec.subscription))
    (folder / "views.yaml").write_text(yaml.safe_dump(spec_of("views", live__topic="another")), encoding="utf-8")
    assert f"views: has its spec, and left {old} of a topic that it had before" in orphans()
    orphans("--remove")
    assert subscriber.there == {target.subscription("another-views")}
    record = read_record(store, "views")
    assert record is not None
    assert record.subscriptions == (target.subscription("another-views"),)


def test_old_files_of_a_stream_that_nobody_knows_go(orphans: Say, target: Target, go_live: GoLive) -> None:
    go_live("views")
    gone = Path(target.left_by(Left.STAGING)) / "forgotten"
    gone.mkdir()
    for name, written in (("old", OLD), ("young", NOW)):
        (gone / name).touch()
        os.utime(gone / name, (written.timestamp(), written.timestamp()))
    assert f"{gone}: 1 files older than 14 days, of a stream that nobody knows" in orphans()
    orphans("--remove")
    assert [path.name for path in gone.iterdir()] == ["young"]
