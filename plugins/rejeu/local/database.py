"""Makes Airflow's empty SQLite database, run as `python -m rejeu.local.database FILE`; nothing else of Airflow.

The file appears under its name only when it is whole: whoever finds it may use it, however often this was killed.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path


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
