"""The end of an orphan for real: its processes end, its subscription is gone, and its neighbour notices nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from google.api_core.exceptions import NotFound

from rejeu import cli
from rejeu.gcp.topics import ensure_topic
from rejeu.jobs.build import replay_request
from rejeu.launchers.process import ProcessLauncher
from rejeu.ports import ENDED
from rejeu.spec.model import StreamSpec
from rejeu.spec.names import replay_job, stream_job
from rejeu.state.live_record import remember_live
from rejeu.state.sqlite import SqliteStore
from rejeu.state.stream import announce
from rejeu.target import Target
from rejeu.testing.launchers import SmallJob
from rejeu.timeline import format_instant, parse_instant
from tests.emulated.pubsub_feed import PROJECT_ID, Feed, built_in_only
from tests.spec.builders import spec_of

pytestmark = [pytest.mark.emulated, built_in_only]

T0 = parse_instant("2021-05-01T00:00:00Z")


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A worker's environment; its specs name a stream `views` and no `orders`."""
    streams = tmp_path / "dags" / "streams"
    streams.mkdir(parents=True)
    (streams / "views.yaml").write_text(yaml.safe_dump(spec_of("views")), encoding="utf-8")
    settings = {"PROJECT": PROJECT_ID, "STATE": f"sqlite:{tmp_path}/state.db", "HOME": f"{tmp_path}/home"}
    for name, value in {**settings, "DAGS": f"{tmp_path}/dags"}.items():
        monkeypatch.setenv(f"REJEU_{name}", value)
    return Target.from_env()


@pytest.fixture
def launcher(target: Target) -> Iterator[ProcessLauncher]:
    made = ProcessLauncher(target.home / "jobs")
    yield made
    for stream in ("orders", "views"):
        for name in (replay_job(stream), stream_job(stream)):
            made.stop(name, drain=False)


def go_live(stream: str, feed: Feed, target: Target, launcher: ProcessLauncher, rows: Path) -> str:
    """Let the stream's replay and a job in the place of its streaming job run; its subscription."""
    topic = f"{feed.topic.rpartition('/')[2]}-{stream}"
    source = {"files": str(rows), "time": "at"}
    document = spec_of(stream, live__topic=topic, replay__source=source, reconcile__settle="1ms")
    spec = StreamSpec.model_validate(document)
    store = SqliteStore(target.state.partition(":")[2])
    remember_live(store, spec, target)
    ensure_topic(feed.publisher, feed.subscriber, spec, target)
    request = replay_request(spec, target, None, None)
    announce(store, request)
    launcher.start(request)
    launcher.start(SmallJob(("drained", "say", "reads", "wait"), stream_job(stream), ready_text="reads"))
    subscription = target.subscription(spec.subscription)
    assert feed.pull(subscription=subscription), "its replay publishes"
    return subscription


def test_an_orphan_ends_and_its_neighbour_goes_on(
    feed: Feed, target: Target, launcher: ProcessLauncher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.ndjson"
    lines = [json.dumps({"at": format_instant(T0 + timedelta(seconds=n / 10)), "n": n}) for n in range(36_000)]
    rows.write_text("\n".join(lines), encoding="utf-8")
    views = go_live("views", feed, target, launcher, rows)
    orders = go_live("orders", feed, target, launcher, rows)

    assert cli.main(["orphans", "orders", "--remove"]) == 0
    said = capsys.readouterr().out
    assert f"jobs: {replay_job('orders')} (running), {stream_job('orders')} (running)" in said
    assert said.endswith("  done\n")

    for name in (replay_job("orders"), stream_job("orders")):
        job = launcher.find(name)
        assert job is not None
        assert job.state in ENDED
    with pytest.raises(NotFound):
        feed.subscriber.get_subscription(subscription=orders)
    feed.publisher.get_topic(topic=f"{feed.topic}-orders")
    store = SqliteStore(target.state.partition(":")[2])
    assert {name.partition(".")[0] for name in store.names()} == {"views"}

    for name in (replay_job("views"), stream_job("views")):
        job = launcher.find(name)
        assert job is not None
        assert job.state not in ENDED
    feed.pull(subscription=views)
    assert cli.main(["orphans"]) == 0
    assert capsys.readouterr().out == "nothing is orphaned: each stream of the state store has its spec\n"
