"""The SQL that Rejeu runs, as pure text: tables are named in full, values travel as query parameters.

Every statement runs on BigQuery and on the local emulator, which is why some look plainer than they could.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import dedent


def live_view(streaming: str, batch: str | None, event_time: str, columns: Sequence[str]) -> str:
    """Batch and streaming rows, each once.

    A day belongs to its batch up to the batch's last instant and to the stream after it, which is the hand-over
    rule read backwards; what was delivered twice is removed by its row id.
    """
    names, at = _names(columns), _name(event_time)
    once = f"SELECT * FROM `{streaming}` QUALIFY ROW_NUMBER() OVER (PARTITION BY row_id) = 1"
    if batch is None:
        return f"SELECT {names} FROM ({once})"
    streamed = ", ".join(f"streamed.{_name(column)}" for column in columns)
    return dedent(f"""\
        SELECT {names} FROM `{batch}`
        UNION ALL
        SELECT {streamed}
        FROM ({once}) AS streamed
        LEFT JOIN (
          SELECT DATE({at}) AS day, MAX({at}) AS last FROM `{batch}` GROUP BY day
        ) AS loaded ON DATE(streamed.{at}) = loaded.day
        WHERE loaded.last IS NULL OR streamed.{at} > loaded.last""")


def replace_slice(table: str, staging: str, columns: Sequence[str], condition: str) -> str:
    """Put the staged rows in the place of those that meet `condition`, in one atomic statement.

    A load job into a partition (`table$20210430`) would do for one slice of one table; this does for any, and the
    emulator refuses the decorator.
    """
    names = _names(columns)
    return dedent(f"""\
        MERGE `{table}` USING `{staging}` ON FALSE
        WHEN NOT MATCHED BY SOURCE AND {condition} THEN DELETE
        WHEN NOT MATCHED BY TARGET THEN INSERT ({names}) VALUES ({names})""")


def measure_partition(table: str, event_time: str) -> str:
    """Rows and last instant of one day, and of the whole table; parameter @day."""
    at = _name(event_time)
    return dedent(f"""\
        SELECT
          COUNTIF(DATE({at}) = @day) AS row_count,
          MAX(IF(DATE({at}) = @day, {at}, NULL)) AS max_timestamp,
          MAX({at}) AS table_max_timestamp
        FROM `{table}`""")


def last_instant(table: str, event_time: str) -> str:
    """The last instant of the batch table."""
    return f"SELECT MAX({_name(event_time)}) AS last FROM `{table}`"


def insert_row(table: str, columns: Sequence[str]) -> str:
    """One row, each column as the parameter of its name."""
    return f"INSERT INTO `{table}` ({_names(columns)}) VALUES ({', '.join('@' + name for name in columns)})"


def _names(columns: Sequence[str]) -> str:
    return ", ".join(_name(column) for column in columns)


def _name(column: str) -> str:
    """Quoted, for a column may be called `at` or `order`, which SQL keeps for itself."""
    return ".".join(f"`{part}`" for part in column.split("."))
