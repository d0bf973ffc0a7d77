"""What the replay's tests share: requests and chunks with the boring parts filled in, replays, and emulators."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pytest

from rejeu.errors import StateError
from rejeu.jobs.request import ReplayRequest
from rejeu.ports import Versioned
from rejeu.replay.chunk import Chunk
from rejeu.replay.engine import Replay
from rejeu.replay.reading import read_chunks
from rejeu.replay.report import Report
from rejeu.replay.send.pacer import Clock
from rejeu.state.model import StreamState
from rejeu.testing import MemoryStore
from rejeu.timeline import Position, parse_instant, to_us
from tests.fakes.broker import FakeBroker

PROJECT = "rejeu-local"
TOPIC = f"projects/{PROJECT}/topics/t"
STREAM = "clicks"
T0 = to_us(parse_instant("2021-05-01T00:00:00Z"))
START_SECONDS = 60.0
SECONDS = 20.0

Rows = list[tuple[int, str, bytes]]
"""Event time, row id, body."""
Run = Callable[[Replay], "Future[Report]"]


def chunk_of(rows: Sequence[tuple[int, str, bytes]], ordering: Sequence[str] | None = None, before: int = 0) -> Chunk:
    """These rows as a chunk."""
    return Chunk(
        np.array([event_us for event_us, _, _ in rows], np.int64),
        pa.array([row_id for _, row_id, _ in rows], pa.large_string()),
        pa.array([data for _, _, data in rows], pa.large_binary()),
        None if ordering is None else pa.array(ordering, pa.large_string()),
        before,
    )


def rows_of(chunk: Chunk) -> Rows:
    """What `chunk_of` made it of."""
    columns = (chunk.event_us.tolist(), chunk.row_ids.to_pylist(), chunk.data.to_pylist())
    return list(zip(*columns, strict=True))


def body(number: int) -> bytes:
    """Row n of the file that replays read: n seconds after T0; its `k` is a for even n, b for odd."""
    return b'{"at":"2021-05-01T00:00:%02dZ","n":%d,"k":"%s"}' % (number, number, (b"a", b"b")[number % 2])


def bodies(*numbers: int) -> list[bytes]:
    """As `FakeBroker.bodies` gives them."""
    return sorted(body(number) for number in numbers)


def at(number: int) -> str:
    """When row n happened."""
    return f"2021-05-01T00:00:{number:02d}.000000Z"


class Store(MemoryStore):
    """A state store in which others may come between, and which may break; says how often it saved and refused."""

    between: Callable[[], object] | None = None
    broken = False

    def __init__(self) -> None:
        super().__init__()
        self.refused = self.saved = 0
        self._changed = threading.Condition()

    @property
    def stream(self) -> StreamState:
        """What is remembered of the stream; before anything is, that."""
        found = super().load(STREAM)
        return StreamState.model_validate(found.document if found else {"stream": STREAM})

    def wait_for(self, true: Callable[[], bool]) -> None:
        """Wait until something that writings and readings change is so."""
        with self._changed:
            assert self._changed.wait_for(true, SECONDS), self.stream

    def load(self, name: str) -> Versioned | None:
        self._refuse_if_broken()
        return super().load(name)

    def save(self, name: str, document: dict[str, Any], expected: int | None) -> int:
        somebody, self.between = self.between, None
        if somebody is not None:
            somebody()
        self._refuse_if_broken()
        version = super().save(name, document, expected)
        with self._changed:
            self.saved += 1
            self._changed.notify_all()
        return version

    def _refuse_if_broken(self) -> None:
        if self.broken:
            with self._changed:
                self.refused += 1
                self._changed.notify_all()
            raise StateError("state store: disk full")


class MakeReplay(Protocol):
    """Makes a replay of the file at speed max; its flags may be told otherwise."""

    def __call__(self, clock: Clock | None = None, **values: Any) -> Replay: ...


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
