"""Airflow's SQLite database: how Airflow connects, and `python -m rejeu.local.stack.database FILE`, which makes it.

The file appears under its name only when it is whole: whoever finds it may use it, however often this was killed.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

PATIENCE_SECONDS: Final = 30.0
"""How long a statement waits until others have written."""
LOOP_PATIENCE_SECONDS: Final = 0.3
"""The same on an event loop."""


class _Cursor(sqlite3.Cursor):
    connection: _Connection

    def execute(self, sql: str, parameters: Any = (), /) -> _Cursor:
        patience = LOOP_PATIENCE_SECONDS if _on_event_loop() else PATIENCE_SECONDS
        if patience != self.connection.patience:
            super().execute(f"PRAGMA busy_timeout = {patience * 1000:.0f}")
            self.connection.patience = patience
        if sql.startswith("SAVEPOINT") and not self.connection.in_transaction:
            super().execute("BEGIN IMMEDIATE")
        return super().execute(sql, parameters)


class _Connection(sqlite3.Connection):
    """Who opens a savepoint will write: it waits for its turn first, while SQLite still can wait.

    A savepoint alone begins to read. Once another has written since, or is writing, its own first write fails at
    once, whatever the timeout (https://sqlite.org/rescode.html#busy_snapshot): so did Airflow's backfills.

    And whoever waits on an event loop soon gives up: Airflow's API server writes its log of actions there, while
    another request that has written may need that very loop for its commit.
    """

    patience = 0.0

    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


CONNECT_ARGS: Final[dict[str, Any]] = {"factory": _Connection}
"""For `sql_alchemy_connect_args`; Airflow adds to it."""


def create(file: Path) -> None:
    """Make the database with all tables of the installed Airflow."""
    unfinished = file.with_suffix(".new")
    for left in file.parent.glob(f"{unfinished.name}*"):
        left.unlink()
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{unfinished}"
    _create_tables()
    with closing(sqlite3.connect(unfinished)) as connection:
        # Readers and the one writer do not wait for each other; the file remembers it.
        connection.execute("PRAGMA journal_mode=WAL")
    unfinished.replace(file)


def _create_tables() -> None:
    """Import late: Airflow reads its settings, and so the database's name, when it is imported."""
    from airflow import settings
    from airflow.utils import db

    db.initdb()
    # A connection left open would keep rows in the write-ahead log, which does not move with the file.
    settings.dispose_orm()


if __name__ == "__main__":
    create(Path(sys.argv[1]))
