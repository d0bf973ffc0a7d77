"""What a stream's demo feeds in, and what must come out of it: the frame that the demos beside this one fill."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final

import msgspec
from google.cloud import bigquery, storage

from rejeu.bigquery.incidents import recent_incidents
from rejeu.bigquery.records import IncidentRow
from rejeu.gcp.clients import bigquery_client, storage_client
from rejeu.spec.columns import Column
from rejeu.spec.model import StreamSpec
from rejeu.target import Target
from rejeu.timeline import Position

FILES: Final = 4
TIMEOUT_SECONDS: Final = 60.0


class DemoData(ABC):
    """One day as raw files, what is replayed after it, and the truth about both.

    The truth is computed by DuckDB from the source's own lines, far from the code that is shown.
    """

    truth: ClassVar[str]
    """A DuckDB query over `lines`, whose column `json` holds one row of the source: what the live view must hold."""
    key: ClassVar[tuple[Column, ...]]
    """The columns of the truth that tell its rows apart."""
    values: ClassVar[tuple[Column, ...]] = ()
    """Its other columns, which must be equal; floats to nine digits, for nobody says in which order they are summed."""
    becomes: ClassVar[str]
    """What the pipeline makes of a message, in a sentence that says why rows are more or fewer than messages."""
    endless: ClassVar[bool] = False
    """Whether the source goes on for ever, so that the demo has to end it."""

    def __init__(self, spec: StreamSpec, target: Target, day: date) -> None:
        self.spec, self.target, self.day = spec, target, day
        self.expected = f"{target.project}.rejeu_demo.expected"

    def write_history(self) -> None:
        """Write the day's raw files."""
        self.write_files(list(self.history()))

    def write_source(self) -> None:
        """Write what is replayed after the day; nothing where it is made up or asked for on the way."""
        return

    @abstractmethod
    def history(self) -> Iterable[bytes]:
        """The day's rows, each a line of JSON."""

    @abstractmethod
    def streamed(self, end: Position | None) -> Iterable[bytes]:
        """The rows after the day that were replayed, up to this place, or to the end."""

    def further_checks(self, end: Position | None) -> dict[str, int]:
        """What else was compared, of what was replayed up to this place: how much of each was wrong."""
        return {}

    @property
    def midnight(self) -> datetime:
        """The end of the day."""
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC) + timedelta(days=1)

    def expect(self, end: Position | None) -> int:
        """Compute the truth and put it beside the tables; returns how many rows of the source were replayed."""
        history, streamed = list(self.history()), list(self.streamed(end))
        with TemporaryDirectory(prefix="rejeu-demo-") as folder:
            rows = self._compute(Path(folder, "lines.ndjson"), [*history, *streamed])
        self.load(self.expected, rows, (*self.key, *self.values))
        return len(streamed)

    def is_complete(self) -> bool:
        """Whether as many rows have arrived as must, and nothing differs."""
        counts = self.compare()
        return not counts["missing"]

    def compare(self) -> dict[str, int]:
        """What is in the tables against what must be there; a row is missing, too, where one of its values differs."""
        view = self.target.table(self.spec.view)
        batch = self.target.table(self.spec.batch.table) if self.spec.batch else ""
        same = " AND ".join(["TRUE", *(f"COALESCE({_same(column)}, FALSE)" for column in self.values)])
        sides = f"WITH due AS ({self._counted(self.expected)}), found AS ({self._counted(view)})"
        join = " AND ".join(f"found.`{column.name}` = due.`{column.name}`" for column in self.key)
        questions = {
            "batch_rows": f"SELECT COUNT(*) FROM `{batch}`",
            "expected_rows": f"SELECT COUNT(*) FROM `{self.expected}`",
            "streamed_rows": f"SELECT COUNT(*) FROM `{self.target.table(self.spec.live.table)}`",
            "missing": f"{sides} SELECT SUM(IF(found.times IS NOT NULL AND {same}, "
            f"GREATEST(due.times - found.times, 0), due.times)) FROM due LEFT JOIN found ON {join}",
            "unexpected": f"{sides} SELECT SUM(found.times) FROM found LEFT JOIN due ON {join} WHERE due.times IS NULL",
            "duplicates_in_live_view": f"{sides} SELECT SUM(GREATEST(found.times - due.times, 0)) FROM found "
            f"JOIN due ON {join}",
            "dead_letters": f"SELECT COUNT(*) FROM `{self.target.table(self.spec.dead_letters)}`",
            "incidents": f"SELECT COUNT(*) FROM `{self.target.incidents}`",
        }
        return {name: int(self.row(text)[0] or 0) for name, text in questions.items()}

    def panes(self) -> dict[str, int]:
        """Of a stream that aggregates: the rows that were written before, at and after the end of their windows."""
        if self.spec.pipeline.windows is None:
            return {}
        table = self.target.table(self.spec.live.table)
        found = self.query(f"SELECT pane_timing, COUNT(*) AS n FROM `{table}` GROUP BY pane_timing ORDER BY 1")
        return {str(row["pane_timing"]).lower(): int(row["n"]) for row in found}

    def last_incident(self) -> IncidentRow | None:
        """The newest incident that is over; None while none is."""
        return next(iter(recent_incidents(self._bigquery, self.target.incidents, self.spec.stream, 1) or ()), None)

    def query(self, text: str) -> list[Any]:
        """The rows that BigQuery answers."""
        return list(self._bigquery.query(text, timeout=TIMEOUT_SECONDS).result(timeout=TIMEOUT_SECONDS))

    def row(self, text: str) -> Any:
        """The only row that BigQuery answers."""
        (row,) = self.query(text)
        return row

    def write_files(self, lines: Sequence[bytes]) -> None:
        """The day's raw files, where the spec says that they lie."""
        assert self.spec.batch is not None
        pattern = self.target.expand(self.spec.batch.files, partition=self.day.isoformat())
        folder = pattern.removeprefix(f"gs://{self.target.bucket}/").rpartition("/")[0]
        for number in range(FILES):
            self.upload(f"{folder}/part-{number}.ndjson", b"".join(line + b"\n" for line in lines[number::FILES]))

    def upload(self, name: str, content: bytes) -> None:
        """An object in the target's bucket."""
        self.bucket.blob(name).upload_from_string(content, content_type="application/octet-stream")

    def load(self, table: str, lines: Iterable[bytes], columns: Sequence[Column]) -> None:
        """Create the table, and fill it with a load job."""
        self._bigquery.create_dataset(".".join(table.split(".")[:2]), exists_ok=True, timeout=TIMEOUT_SECONDS)
        name = f"rejeu-demo/{table}.ndjson"
        self.upload(name, b"".join(line + b"\n" for line in lines))
        configuration = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
            schema=[bigquery.SchemaField.from_api_repr(column.to_api()) for column in columns],
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        )
        uri = f"gs://{self.target.bucket}/{name}"
        self._bigquery.load_table_from_uri(uri, table, job_config=configuration).result(timeout=TIMEOUT_SECONDS)

    @cached_property
    def bucket(self) -> storage.Bucket:
        return storage_client(self.target.project).bucket(self.target.bucket)

    @cached_property
    def _bigquery(self) -> bigquery.Client:
        return bigquery_client(self.target.project)

    def _compute(self, file: Path, lines: Sequence[bytes]) -> list[bytes]:
        import duckdb

        file.write_bytes(b"\n".join(lines))
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE VIEW lines AS SELECT json FROM read_ndjson_objects('{file}')")
        names = [column.name for column in (*self.key, *self.values)]
        quoted = ", ".join(f'"{name}"' for name in names)
        rows = connection.execute(f"SELECT {quoted} FROM ({self.truth})").fetchall()
        return [msgspec.json.encode(dict(zip(names, row, strict=True))) for row in rows]

    def _counted(self, table: str) -> str:
        """The table's rows by their key, and how often each is there."""
        key = ", ".join(f"`{column.name}`" for column in self.key)
        values = "".join(f", MIN(`{column.name}`) AS `{column.name}`" for column in self.values)
        return f"SELECT {key}, COUNT(*) AS times{values} FROM `{table}` GROUP BY {key}"


def _same(column: Column) -> str:
    due, found = f"due.`{column.name}`", f"found.`{column.name}`"
    equal = f"ABS({found} - {due}) <= 1e-9 * ABS({due})" if column.type == "FLOAT64" else f"{found} = {due}"
    return f"({due} IS NULL AND {found} IS NULL) OR {equal}"
