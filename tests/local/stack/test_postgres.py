"""The local stack's PostgreSQL: where its programs are found, and what a real server does with its data."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from sqlalchemy import make_url

from rejeu.errors import StackError
from rejeu.local.processes.ports import free_port
from rejeu.local.servers.postgres import Postgres, find_postgres
from rejeu.local.stack import airflow_tables
from rejeu.local.stack.health import answers_postgres
from tests.paths import PLUGINS

SECONDS = 60.0
USER, PASSWORD = "airflow", "a secret"


def programs(folder: Path, version: str) -> Path:
    """A folder that looks like a server's of this version."""
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (folder / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a machine without PostgreSQL; nothing but `sh` and `echo` is on its PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return tmp_path


def test_a_server_on_path_is_found_where_it_really_lies(bare: Path) -> None:
    real = programs(bare / "real", "16.4")
    (bare / "path").mkdir()
    (bare / "path" / "postgres").symlink_to(real / "postgres")

    assert find_postgres(bare) == Postgres(real, 16)


def test_pg_config_is_asked_for_a_server_that_is_not_on_path(bare: Path) -> None:
    real = programs(bare / "real", "17.1")
    (bare / "path").mkdir()
    (bare / "path" / "pg_config").write_text(f"#!/bin/sh\necho {real}\n")
    (bare / "path" / "pg_config").chmod(0o755)

    assert find_postgres(bare) == Postgres(real, 17)


def test_the_newest_of_debians_servers_is_taken(bare: Path) -> None:
    programs(bare / "usr/lib/postgresql/9.6/bin", "9.6.24")
    newest = programs(bare / "usr/lib/postgresql/16/bin", "16.4 (Debian 16.4-1)")
    programs(bare / "usr/lib/postgresql/15/bin", "15.18 (Debian 15.18-0+deb12u1)")

    assert find_postgres(bare) == Postgres(newest, 16)


def test_a_client_alone_is_no_server(bare: Path) -> None:
    (programs(bare / "usr/lib/postgresql/16/bin", "16.4") / "postgres").unlink()

    assert find_postgres(bare).programs.is_relative_to(sys.prefix)


def test_what_airflow_does_not_support_is_passed_over_for_the_wheels_server(bare: Path) -> None:
    programs(bare / "usr/lib/postgresql/13/bin", "13.20")

    found = find_postgres(bare)

    assert found.programs.is_relative_to(sys.prefix)
    assert found.major >= 18


def test_where_there_is_none_the_error_says_how_to_get_one(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(
        StackError, match=r"no PostgreSQL server .*: .*needs one.*; install .*`pip install 'rejeu\[local\]"
    ):
        find_postgres(bare)


class Server:
    """One that listens, with its data in a folder that only its owner may enter."""

    def __init__(self, found: Postgres, folder: Path) -> None:
        self._found, self.data, self._password = found, folder / "data", folder / "password"
        self._password.write_text(PASSWORD)
        folder.chmod(0o700)
        self.port = free_port()
        self.url = f"postgresql+psycopg2://{USER}:a%20secret@127.0.0.1:{self.port}/mine"

    def start(self) -> subprocess.Popen[bytes]:
        where = ("--programs", self._found.programs, "--data", self.data, "--port", str(self.port))
        access = ("--user", USER, "--password-file", self._password)
        command = [sys.executable, "-m", "rejeu.local.servers.postgres", *where, *access]
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(PLUGINS)})
        until(lambda: process.poll() is not None or answers_postgres(self.url)())
        return process

    def connect(self, database: str = "postgres", password: str = PASSWORD) -> Any:
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=USER, password=password, dbname=database, connect_timeout=10
        )
        connection.autocommit = True
        return connection

    def ask(self, statement: str, database: str = "postgres") -> list[Any]:
        with closing(self.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            rows: list[Any] = cursor.fetchall() if cursor.description else []
            return rows


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(params=["the machine's, if it has one", "the wheel's"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with monkeypatch.context() as changed:
        if request.param == "the wheel's":
            changed.setenv("PATH", "")
            found = find_postgres(tmp_path)
        else:
            found = find_postgres()
    server = Server(found, tmp_path)
    yield server
    for process in serving(server.data):
        process.kill()


def serving(data: Path) -> list[psutil.Process]:
    """The servers of these data, of which there may be one."""
    found = [each for each in psutil.process_iter(["cmdline"]) if str(data) in (each.info["cmdline"] or [])]
    return [each for each in found if each.info["cmdline"][0].endswith("/postgres")]


@pytest.mark.emulated
def test_what_was_written_outlives_a_kill(server: Server) -> None:
    killed = server.start()
    server.ask("CREATE TABLE kept AS SELECT 42 AS answer")
    killed.kill()
    killed.wait(timeout=SECONDS)

    server.start()

    assert server.ask("SELECT answer FROM kept") == [(42,)]


@pytest.mark.emulated
def test_the_process_id_of_one_that_was_killed_may_be_somebody_elses_by_now(server: Server) -> None:
    killed = server.start()
    killed.kill()
    killed.wait(timeout=SECONDS)
    left = server.data / "postmaster.pid"
    left.write_text("\n".join([str(os.getppid()), *left.read_text().splitlines()[1:]]))

    assert server.start().poll() is None


@pytest.mark.emulated
def test_it_ends_at_once_though_somebody_is_connected(server: Server) -> None:
    process = server.start()
    with closing(server.connect()):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=SECONDS) == 0
    assert serving(server.data) == []


@pytest.mark.emulated
def test_only_who_knows_the_password_gets_in(server: Server) -> None:
    server.start()

    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        server.connect(password="a guess")


@pytest.mark.emulated
def test_data_that_were_half_made_are_made_anew(server: Server) -> None:
    unfinished = server.data.with_suffix(".new")
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("1")

    assert server.start().poll() is None
    assert not unfinished.exists()


@pytest.mark.emulated
def test_a_database_that_was_half_made_is_made_anew(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    server.ask("CREATE DATABASE mine")
    server.ask("CREATE TABLE half (id INT)", "mine")
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", server.url)
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "done")])
    monkeypatch.setattr(airflow_tables, "_make_tables", lambda: server.ask("CREATE TABLE whole (id INT)", "mine"))

    with closing(server.connect("mine")):  # somebody still looks at it
        assert airflow_tables.main() == 0

    assert server.ask("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", "mine") == [("whole",)]
    assert (tmp_path / "done").exists()


def test_a_server_that_is_not_there_does_not_answer() -> None:
    url = make_url("postgresql+psycopg2://u:p@127.0.0.1/any").set(port=free_port())

    assert not answers_postgres(url.render_as_string(hide_password=False))()
