"""What the replay's tests share: requests with the boring parts filled in, replays, and emulators."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
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

START_SECONDS = 60.0


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


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A BigQuery emulator that the environment names; gives the folder that stands for `gs://`."""
    from duckdb_extensions import import_extension

    import_extension("spatial")
    folder = tmp_path_factory.mktemp("bigquery")
    rest, grpc = _free_port(), _free_port()
    command = [sys.executable, "-m", "bqemulator", "start", "--ephemeral", "--log-level", "ERROR"]
    with (folder / "log").open("wb") as log, pytest.MonkeyPatch.context() as patch:
        process = subprocess.Popen(
            [*command, "--rest-port", str(rest), "--grpc-port", str(grpc)],
            env=os.environ | {"BQEMU_GCS_LOCAL_ROOT": str(folder)},
            stdout=log,
            stderr=log,
        )
        try:
            for port in (rest, grpc):
                _wait_for(port, process, folder / "log")
            patch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{rest}")
            patch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", f"127.0.0.1:{grpc}")
            yield folder
        finally:
            process.terminate()
            process.wait(timeout=START_SECONDS)


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Cloud Storage emulator that the environment names."""
    folder = tmp_path_factory.mktemp("storage")
    port = _free_port()
    program = Path(sys.executable).with_name("gcp-storage-emulator")
    with (folder / "log").open("wb") as log, pytest.MonkeyPatch.context() as patch:
        process = subprocess.Popen(
            [program, "-d", folder, "start", "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log
        )
        try:
            _wait_for(port, process, folder / "log")
            patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
            yield
        finally:
            process.terminate()
            process.wait(timeout=START_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(0.1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the emulator did not open port {port}: {log.read_text()[-2000:]}")
