"""The SQL that Rejeu runs, as pure text: tables are named in full, values travel as query parameters.

Every statement runs on BigQuery and on the local emulator: because of the latter some are simpler than they could be.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import dedent

from rejeu.spec.pipelines import Windows


def live_view(streaming: str, batch: str | None, event_time: str, columns: Sequence[str]) -> str:
    """Batch and streaming rows, each once.

    Up to the last instant of a day's batch its rows come from the batch, after it from the stream, as the hand-over
    decides. Rows that were delivered twice are removed by row id.
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


def final_rows(streaming: str, batch: str | None, windows: Windows, columns: Sequence[str]) -> str:
    """For a stream that aggregates: one row for each key and window, the one with the highest count.

    The counts of a window's rows only grow, whether the batch or a restarted streaming job writes them. A session also
    grows in length and absorbs others: a row is final unless another row of its key covers its window.
    """
    names, key = _names(columns), _names(windows.key)
    start, end, count = _name(windows.start), _name(windows.end), _name(windows.count)
    history = "" if batch is None else f"SELECT {names} FROM `{batch}`\n          UNION ALL\n          "
    return dedent(f"""\
        SELECT {names}
        FROM (
          {history}SELECT {names} FROM `{streaming}`
        )
        QUALIFY {end} > COALESCE(
          MAX({end}) OVER (
            PARTITION BY {key} ORDER BY {start}, {end} DESC, {count} DESC, pane_index DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
          ),
          TIMESTAMP '0001-01-01 00:00:00+00'
        )""")


def replace_slice(table: str, staging: str, columns: Sequence[str], condition: str) -> str:
    """Replace the rows that meet `condition` by the staged rows, in one atomic statement.

    A load job into a partition (`table$20210430`) could replace only a whole day, and the emulator refuses the
    decorator.
    """
    names = _names(columns)
    return dedent(f"""\
        MERGE `{table}` USING `{staging}` ON FALSE
        WHEN NOT MATCHED BY SOURCE AND {condition} THEN DELETE
        WHEN NOT MATCHED BY TARGET THEN INSERT ({names}) VALUES ({names})""")


def measure_partition(table: str, event_time: str) -> str:
    """Row count and last instant of one day, and the whole table's last instant; parameter @day."""
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


def is_day(event_time: str, day: str) -> str:
    """The condition that a row is of this day (2021-04-30)."""
    return f"DATE({_name(event_time)}) = DATE '{day}'"


def is_from_files(stream: str, files: str) -> str:
    """The condition that a dead letter came from these files (`*` allowed): its row id is `<file>:<line>`.

    An underscore matches any character in LIKE: within one stream that does no harm.
    """
    pattern = files.replace("?", "_").replace("*", "%")
    return f"stream = '{stream}' AND row_id LIKE '{pattern}:%'"


def insert_once(table: str, columns: Sequence[str], key: Sequence[str]) -> str:
    """Insert one row unless there is one with this key; each column is the parameter of its name."""
    values = ", ".join(f"@{name}" for name in columns)
    same = " AND ".join(f"{_name(name)} = @{name}" for name in key)
    return dedent(f"""\
        INSERT INTO `{table}` ({_names(columns)})
        SELECT {values} FROM (SELECT 1)
        WHERE NOT EXISTS (SELECT 1 FROM `{table}` WHERE {same})""")


def delivered(table: str, dead_letters: str, stream: str, condition: str, micros: str) -> str:
    """The row ids that were written, and how often each one was; 0 for one that is only a dead letter.

    Parameters @from_us and @until_us bound the event times, which are read from the ids; for an id that is not of this
    stream the row's own time counts (`micros`). `condition` holds for every such row of the table, to prune partitions.
    """
    said = f"SAFE_CAST(REGEXP_EXTRACT(row_id, r'^{stream}/(-?[0-9]+)/') AS INT64)"
    return dedent(f"""\
        SELECT row_id, SUM(written) AS written
        FROM (
          SELECT row_id, 1 AS written, COALESCE({said}, {micros}) AS us FROM `{table}` WHERE {condition or "TRUE"}
          UNION ALL
          SELECT row_id, 0 AS written, {said} AS us FROM `{dead_letters}`
        )
        WHERE us >= @from_us AND us < @until_us
        GROUP BY row_id""")


def newest_incidents(table: str, columns: Sequence[str]) -> str:
    """The last @most incidents of @stream, or of all where that is NULL."""
    return dedent(f"""\
        SELECT {_names(columns)} FROM `{table}`
        WHERE @stream IS NULL OR stream = @stream
        ORDER BY lost_at DESC, stream
        LIMIT @most""")


def _names(columns: Sequence[str]) -> str:
    return ", ".join(_name(column) for column in columns)


def _name(column: str) -> str:
    """The name in quotes: a column may be called `at` or `order`, which SQL reserves."""
    return ".".join(f"`{part}`" for part in column.split("."))
