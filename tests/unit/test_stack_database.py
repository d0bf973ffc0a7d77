"""How the local Airflow shares one SQLite file between its processes."""

import asyncio
import pkgutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from rejeu.local.stack import database
from rejeu.local.stack.settings import StackSettings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "airflow.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE run (id)")
    return file


@pytest.fixture
def airflow(file: Path, tmp_path: Path) -> Iterator[Engine]:
    """As every Airflow process of the stack connects."""
    variables = StackSettings.choose(tmp_path, tmp_path).variables()
    connect_args = pkgutil.resolve_name(variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS"])
    engine = create_engine(f"sqlite:///{file}", connect_args=connect_args)
    yield engine
    engine.dispose()


def test_what_a_savepoint_has_read_nobody_changes_before_it_writes(airflow: Engine, file: Path) -> None:
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as other:
        with airflow.begin() as connection, connection.begin_nested():
            assert connection.scalar(text("SELECT COUNT(*) FROM run")) == 0
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("INSERT INTO run VALUES (2)")
            connection.execute(text("INSERT INTO run VALUES (1)"))
        other.execute("INSERT INTO run VALUES (2)")
        assert other.execute("SELECT id FROM run").fetchall() == [(1,), (2,)]


def test_who_must_wait_on_an_event_loop_gives_up_and_elsewhere_waits(
    airflow: Engine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOOP_PATIENCE_SECONDS", 0.01)

    def insert() -> None:
        with airflow.begin() as connection:
            connection.execute(text("INSERT INTO run VALUES (1)"))

    async def insert_on_the_loop() -> None:
        insert()

    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked"):
            asyncio.run(insert_on_the_loop())
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(insert)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
            other.execute("COMMIT")
            waiting.result(timeout=20)
        assert other.execute("SELECT id FROM run").fetchall() == [(1,)]
