"""A state store in one SQLite file, for one machine; several processes may use it at once."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rejeu.errors import StateError
from rejeu.ports import Versioned
from rejeu.state.documents import conflict, parse

BUSY_SECONDS = 10.0
"""How long a writer waits for another one; writes take well under a millisecond."""
AGAIN_SECONDS = 0.01


class SqliteStore:
    """Documents as rows with a version; each call opens a connection of its own, so any thread may call."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"state store {self._path}: its folder cannot be made ({error.strerror})") from None
        deadline = time.monotonic() + BUSY_SECONDS
        while not self._is_made(last_try=time.monotonic() > deadline):
            time.sleep(AGAIN_SECONDS)

    def _is_made(self, *, last_try: bool) -> bool:
        """Whether the file could be made: when two processes switch a new one to WAL at once, SQLite refuses one."""
        try:
            with self._connect() as connection:
                # WAL lets probes read while a replay writes, and a commit costs one append.
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS document (name TEXT PRIMARY KEY, version INTEGER, body TEXT)"
                )
        except StateError as error:
            if last_try or not _is_busy(error.__cause__):
                raise
            return False
        return True

    def load(self, name: str) -> Versioned | None:
        with self._connect() as connection:
            row = connection.execute("SELECT body, version FROM document WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        body, version = row
        where = f"state store {self._path}, document {name!r}"
        if not isinstance(version, int):
            raise StateError(f"{where}: its version is {version!r}: it must be a whole number; restore an older file")
        return Versioned(parse(body, where), version)

    def save(self, name: str, document: dict[str, Any], expected: int | None) -> int:
        body = json.dumps(document)
        with self._connect() as connection:
            if expected is None:
                done = connection.execute("INSERT OR IGNORE INTO document VALUES (?, 1, ?)", (name, body))
            else:
                done = connection.execute(
                    "UPDATE document SET body = ?, version = version + 1 WHERE name = ? AND version = ?",
                    (body, name, expected),
                )
        if done.rowcount != 1:
            raise conflict(name, expected)
        return (expected or 0) + 1

    def remove(self, name: str, expected: int) -> None:
        with self._connect() as connection:
            done = connection.execute("DELETE FROM document WHERE name = ? AND version = ?", (name, expected))
        if done.rowcount != 1:
            raise conflict(name, expected)

    def names(self) -> list[str]:
        with self._connect() as connection:
            return [
                row[0]
                for row in connection.execute("SELECT name FROM document WHERE typeof(name) = 'text' ORDER BY name")
            ]

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as connection, connection:
                # A crash of the machine may lose the last checkpoint: that makes duplicates, and loses no row.
                connection.execute("PRAGMA synchronous=NORMAL")
                yield connection
        except sqlite3.Error as error:
            raise StateError(f"state store {self._path}: {error}. {_remedy(error)}") from error


def _is_busy(error: BaseException | None) -> bool:
    """Whether somebody else is writing; an error of Python's module itself has no code."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


def _remedy(error: sqlite3.Error) -> str:
    if _is_busy(error):
        return f"Another process has been writing for {BUSY_SECONDS:g} s: continue or end one that is paused"
    return "Check that the path is a writable file"
