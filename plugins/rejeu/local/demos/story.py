"""What the demo feeds in, and what must come out of it: computed by DuckDB from the same lines, far from our code."""

from __future__ import annotations

import json
import sys
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from google.cloud import bigquery, storage

import rejeu
from rejeu.gcp.clients import bigquery_client, storage_client
from rejeu.live import replay_of
from rejeu.replay.source.generators.oracle_requests import COLUMNS, OracleRequests
from rejeu.spec import StreamSpec
from rejeu.spec_files import read_spec
from rejeu.target import Target

STREAM: Final = "crypto_rates"
STREAMED_MINUTES: Final = 30.0
BATCH_EVERY, STREAMED_EVERY = 10.0, 1.5
"""Mean seconds between two requests: the chain's own pace was about one a block of 3 s."""
FILES: Final = 4
TIMEOUT_SECONDS: Final = 60.0

EXPECTED: Final = """
    SELECT
      timestamp,
      request,
      unnest(symbols) AS symbol,
      unnest(rates)::DOUBLE / multiplier AS rate
    FROM (
      SELECT
        timestamp,
        request,
        from_json(calldata, '{"symbols":["VARCHAR"]}').symbols AS symbols,
        from_json(calldata, '{"multiplier":"BIGINT"}').multiplier AS multiplier,
        from_json(result, '{"rates":["BIGINT"]}').rates AS rates
      FROM (
        SELECT
          json ->> '$.block_timestamp_truncated' AS timestamp,
          json ->> '$.oracle_request_id' AS request,
          json ->> '$.request.oracle_script_id' AS script,
          json ->> '$.decoded_result.calldata' AS calldata,
          json ->> '$.decoded_result.result' AS result
        FROM read_ndjson_objects(?)
      )
      WHERE script = '3'
    )
    WHERE len(symbols) = len(rates)
"""
"""Every row that the live view must hold: script 3 only, and only requests with as many rates as symbols."""


class DemoData:
    """One day in raw files, the half hour after it in the source table, and the truth about both."""

    def __init__(self, spec: StreamSpec, target: Target, day: date) -> None:
        self._spec = spec
        self._target = target
        self._day = day
        self._expected = f"{target.project}.rejeu_demo.expected"

    def write(self) -> int:
        """Write files, source table and truth; returns the rows of the source table."""
        midnight = datetime(self._day.year, self._day.month, self._day.day, tzinfo=UTC)
        history = list(OracleRequests(start=midnight, minutes=24 * 60, seed=1, every=BATCH_EVERY).lines())
        future = OracleRequests(
            start=midnight + timedelta(days=1),
            minutes=STREAMED_MINUTES,
            seed=2,
            every=STREAMED_EVERY,
            first_id=2_000_000,
        )
        streamed = list(future.lines())
        with TemporaryDirectory(prefix="rejeu-demo-") as folder:
            self._write_files(history)
            self._load(
                self._target.table(str(replay_of(self._spec).source.table)), streamed, [c.to_api() for c in COLUMNS]
            )
            truth = self._compute(Path(folder), [*history, *streamed])
            columns = (("timestamp", "TIMESTAMP"), ("request", "STRING"), ("symbol", "STRING"), ("rate", "FLOAT64"))
            self._load(self._expected, truth, [{"name": name, "type": kind} for name, kind in columns])
        return len(streamed)

    def is_complete(self) -> bool:
        """Whether as many rows have arrived as must."""
        view = self._target.table(self._spec.view)
        row = self._row(
            f"SELECT (SELECT COUNT(*) FROM `{view}`) AS found, (SELECT COUNT(*) FROM `{self._expected}`) AS due"
        )
        return bool(row["found"] >= row["due"])

    def compare(self) -> dict[str, int]:
        """What is in the tables against what must be there; a row is missing unless time and rate agree, too."""
        view = self._target.table(self._spec.view)
        batch = self._target.table(self._spec.batch.table) if self._spec.batch else ""
        same = "found.request = due.request AND found.symbol = due.symbol AND found.timestamp = due.timestamp"
        close = "ABS(found.rate - due.rate) <= 1e-9 * ABS(due.rate)"
        questions = {
            "batch_rows": f"SELECT COUNT(*) FROM `{batch}`",
            "expected_rows": f"SELECT COUNT(*) FROM `{self._expected}`",
            "streamed_rows": f"SELECT COUNT(*) FROM `{self._target.table(self._spec.live.table)}`",
            "missing": f"SELECT COUNT(*) FROM `{self._expected}` AS due LEFT JOIN `{view}` AS found "
            f"ON {same} AND {close} WHERE found.request IS NULL",
            "unexpected": f"SELECT COUNT(*) FROM `{view}` AS found LEFT JOIN `{self._expected}` AS due "
            f"ON {same} WHERE due.request IS NULL",
            "duplicates_in_live_view": "SELECT COUNT(*) - "
            f"(SELECT COUNT(*) FROM (SELECT DISTINCT request, symbol FROM `{view}`)) FROM `{view}`",
            "dead_letters": f"SELECT COUNT(*) FROM `{self._target.table(self._spec.dead_letters)}`",
            "incidents": f"SELECT COUNT(*) FROM `{self._target.incidents}`",
        }
        return {name: int(self._row(text)[0]) for name, text in questions.items()}

    def last_incident(self) -> Any:
        """The newest incident's row."""
        return self._row(f"SELECT * FROM `{self._target.incidents}` ORDER BY resumed_at DESC LIMIT 1")

    @cached_property
    def _bigquery(self) -> bigquery.Client:
        return bigquery_client(self._target.project)

    @cached_property
    def _bucket(self) -> storage.Bucket:
        return storage_client(self._target.project).bucket(self._target.bucket)

    def _row(self, text: str) -> Any:
        (row,) = self._bigquery.query(text, timeout=TIMEOUT_SECONDS).result(timeout=TIMEOUT_SECONDS)
        return row

    def _write_files(self, lines: list[bytes]) -> None:
        """The raw files, where the spec says that a day's files lie."""
        assert self._spec.batch is not None
        pattern = self._target.place(self._spec.batch.files, partition=self._day.isoformat())
        folder = pattern.removeprefix(f"gs://{self._target.bucket}/").rpartition("/")[0]
        for number in range(FILES):
            blob = self._bucket.blob(f"{folder}/part-{number}.ndjson")
            blob.upload_from_string(b"".join(lines[number::FILES]), content_type="application/x-ndjson")

    def _compute(self, folder: Path, lines: list[bytes]) -> list[bytes]:
        import duckdb

        (folder / "all.ndjson").write_bytes(b"".join(lines))
        names = ("timestamp", "request", "symbol", "rate")
        rows = duckdb.execute(EXPECTED, [str(folder / "all.ndjson")]).fetchall()
        return [json.dumps(dict(zip(names, row, strict=True))).encode() + b"\n" for row in rows]

    def _load(self, table: str, lines: list[bytes], schema: list[dict[str, Any]]) -> None:
        """Create the table, and fill it with a load job."""
        self._bigquery.create_dataset(".".join(table.split(".")[:2]), exists_ok=True, timeout=TIMEOUT_SECONDS)
        name = f"rejeu-demo/{table}.ndjson"
        self._bucket.blob(name).upload_from_string(b"".join(lines), content_type="application/x-ndjson")
        configuration = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
            schema=[bigquery.SchemaField.from_api_repr(column) for column in schema],
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        )
        uri = f"gs://{self._target.bucket}/{name}"
        self._bigquery.load_table_from_uri(uri, table, job_config=configuration).result(timeout=TIMEOUT_SECONDS)


def due_day(now: datetime) -> date:
    """The day that the batch DAG's newest scheduled run is about: schedule `0 1 * * *`, the day before."""
    return (now - timedelta(hours=25)).date()


def main() -> int:
    """Write the data of the stream's demo; the file named by the only argument says that it is done, and what."""
    target = Target.from_env()
    spec = read_spec(Path(rejeu.__file__).parents[2] / "dags" / "streams" / f"{STREAM}.yaml")
    day = due_day(datetime.now(UTC))
    done = Path(sys.argv[1])
    written = {"day": day.isoformat(), "source_rows": DemoData(spec, target, day).write()}
    partial = done.with_suffix(".partial")
    partial.write_text(json.dumps(written), encoding="utf-8")
    partial.replace(done)
    return 0


if __name__ == "__main__":
    sys.exit(main())
