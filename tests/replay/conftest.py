"""What the replay's tests share: requests with the boring parts filled in, replays, and emulators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rejeu.jobs.request import ReplayRequest
from rejeu.replay.engine import Replay
from rejeu.replay.reading import read_chunks
from rejeu.replay.report import Report
from rejeu.replay.send.pacer import Clock
from rejeu.timeline import Position
from tests.fakes.breaking_store import Store
from tests.fakes.broker import FakeBroker
from tests.replay.rows import SECONDS, STREAM, TOPIC, MakeReplay, Rows, Run, body, rows_of
from tests.servers import BigQuery, Storage


@pytest.fixture
def request_for() -> Callable[..., ReplayRequest]:
    """Builds a request for a source; `event_time` is `at` unless told otherwise."""

    def build(**values: Any) -> ReplayRequest:
        return ReplayRequest.of(**({"topic": TOPIC, "stream": "feed", "event_time": "at"} | values))

    return build


@pytest.fixture
def read(request_for: Callable[..., ReplayRequest]) -> Callable[..., Rows]:
    """Reads a whole source: (event time, row id, body) of each row."""

    def rows(start: Position | None = None, **values: Any) -> Rows:
        return [row for chunk in read_chunks(request_for(**values), start) for row in rows_of(chunk)]

    return rows


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """A broker that the environment names."""
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
def replay(broker: FakeBroker, store: Store, file: Path) -> MakeReplay:
    def make(clock: Clock | None = None, **values: Any) -> Replay:
        given = {"topic": TOPIC, "stream": STREAM, "file": str(file), "event_time": "at", "key": ("n",)}
        given |= {"speed": "max", "checkpoint_seconds": 0.01, "patience_seconds": SECONDS, "state": "sqlite:unused"}
        return Replay(ReplayRequest.of(**given | values), store, clock)

    return make


@pytest.fixture
def background() -> Iterator[Run]:
    """Runs a replay beside the test."""
    started: list[Replay] = []
    with ThreadPoolExecutor() as pool:

        def run(made: Replay) -> Future[Report]:
            started.append(made)
            return pool.submit(made.run)

        yield run
        for each in started:
            each.stop()


@pytest.fixture(scope="module")
def emulator(bigquery_here: BigQuery, storage_server: Storage) -> Path:
    """A BigQuery emulator that the environment names; gives the folder that stands for `gs://`."""
    return storage_server.folder


@pytest.fixture(scope="module")
def storage(storage_server: Storage) -> Iterator[None]:
    """A Cloud Storage emulator that the environment names."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in storage_server.variables.items():
            environment.setenv(name, value)
        yield
