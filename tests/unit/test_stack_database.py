"""How the local Airflow shares one SQLite file between its processes."""

import pkgutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from rejeu.local.place import Place


def test_what_a_savepoint_has_read_nobody_changes_before_it_writes(tmp_path: Path) -> None:
    variables = Place.choose(tmp_path, tmp_path).variables()
    connect_args = pkgutil.resolve_name(variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS"])
    file = tmp_path / "airflow.db"
    airflow = create_engine(f"sqlite:///{file}", connect_args=connect_args)
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("CREATE TABLE run (id)")
        with airflow.begin() as connection, connection.begin_nested():
            assert connection.scalar(text("SELECT COUNT(*) FROM run")) == 0
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("INSERT INTO run VALUES (2)")
            connection.execute(text("INSERT INTO run VALUES (1)"))
        other.execute("INSERT INTO run VALUES (2)")
        assert other.execute("SELECT id FROM run").fetchall() == [(1,), (2,)]
    airflow.dispose()
