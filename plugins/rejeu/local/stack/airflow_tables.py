"""`python -m rejeu.local.stack.airflow_tables DONE` makes the database that Airflow's settings name, then the file.

Until that file DONE is there the database may be half made: it is made anew, however often this was killed.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

import psycopg2
from psycopg2 import sql
from sqlalchemy import URL, make_url

CONNECTION = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


def main() -> int:
    """Make the database with all tables of the installed Airflow."""
    _make_empty(make_url(os.environ[CONNECTION]))
    _make_tables()
    Path(sys.argv[1]).touch()
    return 0


def _make_empty(url: URL) -> None:
    """Make the database, and drop what was there of it: whoever asks has no DONE."""
    name = sql.Identifier(str(url.database))
    server = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    with closing(psycopg2.connect(dbname="postgres", **server)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(name))


def _make_tables() -> None:
    """Import late: Airflow connects to its database when it is imported."""
    from airflow.utils import db

    db.initdb()


if __name__ == "__main__":
    sys.exit(main())
