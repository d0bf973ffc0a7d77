"""A replay that asks an API, as a program: what was kept is published, whoever is killed and however the API is."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rejeu.local.processes.ports import free_port
from rejeu.local.servers.open_data import PATH
from rejeu.state.model import Status, StreamState
from rejeu.state.sqlite import SqliteStore
from rejeu.timeline import parse_instant, to_us
from tests.emulated.gate import Gate
from tests.emulated.pubsub_feed import Feed, PubSubServer
from tests.emulated.replay_program import STREAM, Program, lease_runs_out, row_ids, state_in, take, take_all, wait_until
from tests.paths import PLUGINS

pytestmark = [
    pytest.mark.emulated,
    pytest.mark.filterwarnings("ignore:The return_immediately flag"),  # how else to see that nothing is left
    pytest.mark.parametrize("pubsub", ["built-in"], indirect=True, scope="module"),
]

STATIONS = 20
Start = Callable[..., Program]


class OpenData:
    """The local open-data server in a process of its own, on a port that it keeps."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}/?dataset=vlille-realtime&rows=-1"

    def start(self, *flags: str) -> None:
        well = () if flags else ("--error=0", "--busy=0", "--slow=0", "--cut=0")
        command = [
            sys.executable,
            "-m",
            "rejeu.local.servers.open_data",
            f"--port={self.port}",
            f"--stations={STATIONS}",
        ]
        self._process = subprocess.Popen(
            [*command, *well, *flags], env=os.environ | {"PYTHONPATH": str(PLUGINS)}, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def api() -> Iterator[OpenData]:
    server = OpenData()
    yield server
    server.kill()


@pytest.fixture
def gate(pubsub: PubSubServer) -> Iterator[Gate]:
    with Gate(pubsub.address) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "state.db")


@pytest.fixture
def start(feed: Feed, api: OpenData, tmp_path: Path, store: SqliteStore) -> Iterator[Start]:
    """Starts a replay that asks once a second."""
    started: list[Program] = []

    def run(*flags: str, **environment: str) -> Program:
        given = [f"--api={api.url}", f"--raw={tmp_path}/raw/dt={{partition}}", "--every-seconds=60", "--speed=60"]
        given += ["--event-time=observed_at", "--key=recordid", f"--topic={feed.topic}", f"--stream={STREAM}"]
        given += [f"--state=sqlite:{tmp_path / 'state.db'}", "--lease-seconds=0.5", "--checkpoint-seconds=0.05"]
        started.append(Program(*given, *flags, **environment))
        return started[-1]

    yield run
    for each in started:
        each.end_for_sure()


def kept(folder: Path) -> list[str]:
    """The ids of all records of the raw files, in replay order."""
    found = []
    for file in sorted((folder / "raw").rglob("*.json")):
        answer = json.loads(file.read_text())
        at_us = to_us(parse_instant(answer["observed_at"]))
        found += sorted(f"{STREAM}/{at_us}/{record['recordid']}/0" for record in answer["records"])
    return found


def test_what_was_kept_and_not_published_before_a_sigkill_is_published_by_the_next_one(
    feed: Feed, start: Start, api: OpenData, gate: Gate, store: SqliteStore, tmp_path: Path
) -> None:
    api.start()
    gate.shut()
    first = start(PUBSUB_EMULATOR_HOST=gate.address)
    wait_until(lambda: len(kept(tmp_path)) >= 2 * STATIONS)
    first.signal(signal.SIGKILL)
    assert first.end()[0] == -signal.SIGKILL
    before = kept(tmp_path)
    gate.open()
    lease_runs_out(store)
    assert take_all(feed) == []
    second = start("--from=cursor", PUBSUB_EMULATOR_HOST=gate.address)
    messages = take(feed, len(before) + STATIONS)
    second.signal(signal.SIGTERM)
    code, said = second.end()
    assert code == 0, said
    messages += take_all(feed)
    assert row_ids(messages) == kept(tmp_path)[: len(messages)], "each once, and none left out"
    assert row_ids(messages)[: len(before)] == before


def test_a_standby_and_the_holder_keep_one_answer_of_each_second_and_a_kill_loses_none(
    feed: Feed, start: Start, api: OpenData, store: SqliteStore, tmp_path: Path
) -> None:
    api.start()
    holder = start()
    messages = take(feed, STATIONS)
    standby = start("--standby")
    messages += take(feed, 2 * STATIONS)
    holder.signal(signal.SIGKILL)
    holder.end()
    wait_until(lambda: state_in(store).epoch == 2)
    messages += take(feed, 3 * STATIONS)
    standby.signal(signal.SIGTERM)
    code, said = standby.end()
    assert code == 0, said
    published = sorted({*row_ids(messages), *row_ids(take_all(feed))})
    assert {message.attributes["epoch"] for message in messages} == {"1", "2"}
    assert published == sorted(kept(tmp_path)[: len(published)])


def test_an_api_that_misbehaves_and_dies_leaves_gaps_and_a_replay_that_lives(
    feed: Feed, start: Start, api: OpenData, store: SqliteStore, tmp_path: Path
) -> None:
    api.start("--error=0.3", "--cut=0.2", "--busy=0.1", "--slow=0.1")
    program = start()
    messages = take(feed, 3 * STATIONS)
    api.kill()
    dead_since = state_in(store).heartbeat
    quiet: list[StreamState] = []

    def is_quiet() -> bool:
        state = state_in(store)
        quiet.append(state)
        return state.heartbeat is not None and dead_since is not None and (state.heartbeat - dead_since).seconds >= 3

    wait_until(is_quiet)
    assert quiet[-1].status is Status.RUNNING
    assert quiet[-1].next_due is None, "no row is due, so its silence is none"
    api.start()
    messages += take_all(feed) + take(feed, 2 * STATIONS)
    program.signal(signal.SIGTERM)
    code, said = program.end()
    assert code == 0, said
    assert "the API answers again after" in said
    assert "stays without an answer" in said
    messages += take_all(feed)
    assert row_ids(messages) == kept(tmp_path)[: len(messages)]


def test_a_question_that_hangs_does_not_keep_it_from_stopping(start: Start, store: SqliteStore, api: OpenData) -> None:
    with socket.create_server(("127.0.0.1", api.port)) as mute:
        program = start("--every-seconds=3600", "--speed=1")
        connection, _ = mute.accept()
        with connection:
            wait_until(lambda: state_in(store).status is Status.RUNNING)
            program.signal(signal.SIGTERM)
            code, said = program.end()
    assert code == 0, said
    assert f"{STREAM}: stopped: 0 rows" in said


def test_a_secret_is_sent_to_the_api_and_is_nowhere_else(
    feed: Feed, start: Start, api: OpenData, store: SqliteStore, tmp_path: Path
) -> None:
    report, secret = tmp_path / "report.json", "s3cr3t-0f-stations"
    api_with_key = f"--api={api.url}&apikey={{env:STATIONS_KEY}}"
    asked = b""
    with socket.create_server(("127.0.0.1", api.port)) as refusing:
        program = start(api_with_key, f"--report={report}", STATIONS_KEY=secret)
        connection, _ = refusing.accept()
        with connection:
            asked = connection.recv(65_536)
            argv = Path(f"/proc/{program.pid}/cmdline").read_text()
            connection.sendall(b"HTTP/1.1 403 no " + asked.split()[1] + b"\r\nContent-Length: 0\r\n\r\n")
            code, said = program.end()
    assert code == 3, said
    assert f"apikey={secret}".encode() in asked
    state = json.dumps(state_in(store).model_dump(mode="json"))
    for shown in (argv, said, state, report.read_text()):
        assert "apikey={env:STATIONS_KEY}" in shown
        assert secret not in shown
