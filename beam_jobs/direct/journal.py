"""The local job's journal: every message that its windows count, in one SQLite file until no window needs it.

On Dataflow the service keeps windows. The DirectRunner has them in memory only, so a job that is started again counts
them again from the journal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from rejeu.errors import StateError

BUSY_SECONDS: Final = 15.0
"""How long a job waits for the one before it, which may still be draining."""

FORGET: Final = """
    DELETE FROM entry WHERE row_id IN (
      SELECT row_id FROM (
        SELECT row_id, MAX(event_us) OVER (PARTITION BY key, burst) AS last FROM (
          SELECT row_id, key, event_us, SUM(begins) OVER (PARTITION BY key ORDER BY event_us) AS burst FROM (
            SELECT row_id, key, event_us,
              event_us - LAG(event_us, 1, event_us) OVER (PARTITION BY key ORDER BY event_us) >= :pause_us AS begins
            FROM entry
          )
        )
      ) WHERE last < :before_us
    )"""


class Entry(NamedTuple):
    """One message with what windows need: its key, and its event time in microseconds since the epoch."""

    row_id: str
    key: str
    event_us: int
    message: bytes


class Journal:
    """Messages by row id, for one job at a time, whose threads may all call. Raises StateError where it cannot open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, BUSY_SECONDS, check_same_thread=False)
            # Of two jobs each would see half of the messages, and neither a whole window.
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS entry (row_id TEXT PRIMARY KEY, key TEXT, event_us INT, message BLOB)"
            )
            self._connection.execute("CREATE INDEX IF NOT EXISTS by_time ON entry (event_us)")
        except (OSError, sqlite3.Error) as error:
            raise StateError(f"journal {path}: {error}; make its folder writable, and stop other jobs") from None

    def close(self) -> None:
        """Release the file for the next job."""
        self._connection.close()

    def add(self, entries: Iterable[Entry]) -> set[str]:
        """Write the entries that are new, all or none; returns their row ids."""
        with self._connection:
            return {
                entry.row_id
                for entry in entries
                if self._connection.execute("INSERT OR IGNORE INTO entry VALUES (?, ?, ?, ?)", entry).rowcount
            }

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """All event times and messages, by event time; read them to the end before adding anything."""
        yield from self._connection.execute("SELECT event_us, message FROM entry ORDER BY event_us")

    def forget(self, before_us: int, pause_us: int) -> int:
        """Delete entries from before then, and return how many. A key's entries less than a pause apart go together."""
        with self._connection:
            return self._connection.execute(FORGET, {"before_us": before_us, "pause_us": pause_us}).rowcount
