"""The speed of reading rows from each kind of source, ordering and encoding them: in this process, stage by stage."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery
from rich.table import Table

from benchmarks.feed import FIRST_EPOCH, STREAM_NAME, replay_of, write_rows
from benchmarks.section import Options, Result, figures_table, steps
from benchmarks.servers import PROJECT, START_SECONDS, bigquery_emulator
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.format.encode import encode
from rejeu.replay.format.wire import messages
from rejeu.replay.order import CHUNK_ROWS
from rejeu.replay.reading import read_chunks
from rejeu.replay.source.choose import read_rows

BUCKET: Final = "bench"
TABLE: Final = "bench.rows"
COLUMNS: Final = [
    bigquery.SchemaField(name, kind)
    for name, kind in (
        ("at", "TIMESTAMP"),
        ("n", "INT64"),
        ("price", "FLOAT64"),
        ("symbol", "STRING"),
        ("proof", "STRING"),
    )
]
NESTED_ROWS: Final = 20_000
LEGEND: Final = (
    "Medians. A source is read to its end. Chunks: Parquet is read, ordered, encoded and given ids, as in the replay. "
    "Encoding and messages: of rows in memory, as many at a time as in the replay."
)

Stage = Callable[[], int]
"""Does its work once and returns the number of rows."""


@dataclass(frozen=True)
class Run:
    """One run of a stage."""

    stage: str
    rows: int
    seconds: float


def reading(options: Options) -> Result:
    """Run each stage once a round; BigQuery's with its emulator."""
    with tempfile.TemporaryDirectory(prefix="rejeu-bench-") as name, _stages(Path(name), options.messages) as stages:
        schedule = [name for _ in range(options.rounds) for name in stages]
        runs = [_run(name, stages[name]) for name in steps("Reading", schedule)]
    legend = f"Reading and encoding {options.messages:,} rows, {options.rounds} rounds. {LEGEND}"
    return Result(table(runs), legend, [asdict(each) for each in runs])


def table(runs: Sequence[Run]) -> Table:
    """The runs by stage, for a person to read."""
    made = figures_table(1, "stage", "rows/s", "µs a row")
    for stage in dict.fromkeys(each.stage for each in runs):
        seconds = median(each.seconds / each.rows for each in runs if each.stage == stage)
        made.add_row(stage, f"{1 / seconds:,.0f}", f"{seconds * 1e6:.2f}")
    return made


@contextmanager
def _stages(folder: Path, count: int) -> Iterator[dict[str, Stage]]:
    """By name; `folder` stands for Cloud Storage too."""
    (folder / BUCKET).mkdir()
    parquet = replay_of(write_rows(folder / BUCKET / "rows.parquet", count))
    flat, nested = pq.read_table(str(parquet.file)), nested_rows(min(count, NESTED_ROWS))
    ndjson = replay_of(_write_lines(folder / "rows.ndjson", flat))
    chunks = list(read_chunks(parquet, None))
    with _emulator(folder):
        table = ReplayRequest.of(**parquet.model_dump(exclude={"file"}) | {"table": TABLE, "project": PROJECT})
        yield {
            "parquet": lambda: _read(parquet),
            "ndjson": lambda: _read(ndjson),
            "bigquery": lambda: _read(table),
            "chunks": lambda: sum(map(len, read_chunks(parquet, None))),
            "encode flat": lambda: _encode(flat),
            "encode nested": lambda: _encode(nested),
            "messages": lambda: sum(len(messages(each, STREAM_NAME, FIRST_EPOCH).ends) - 1 for each in chunks),
        }


def nested_rows(count: int) -> pa.Table:
    """Rows like Band's oracle requests: records in records, lists of records, JSON as text."""
    n = np.arange(count)
    raw = [{"external_id": str(each), "data_source_id": 61 + each, "calldata": "QlRDIEVUSA=="} for each in range(3)]
    request = {"oracle_script_id": 3, "requested_validators": ["bandvaloper1", "bandvaloper2"], "raw_requests": raw}
    decoded = {"calldata": '{"symbols":["BTC","ETH"],"multiplier":1000000}', "result": '{"rates":[57234120000,1]}'}
    return pa.table(
        {
            "at": pa.array(1_619_827_200_000_000 + n * 1_000).cast(pa.timestamp("us", "UTC")),
            "oracle_request_id": n,
            "request": pa.array([request] * count),
            "decoded_result": pa.array([decoded] * count),
        }
    )


def _run(name: str, stage: Stage) -> Run:
    started = time.perf_counter()
    rows = stage()
    return Run(name, rows, time.perf_counter() - started)


def _read(request: ReplayRequest) -> int:
    return sum(rows.num_rows for rows in read_rows(request, None))


def _encode(rows: pa.Table) -> int:
    return sum(len(encode(rows.slice(at, CHUNK_ROWS).combine_chunks())) for at in range(0, rows.num_rows, CHUNK_ROWS))


def _write_lines(file: Path, rows: pa.Table) -> Path:
    with file.open("wb") as lines:
        for at in range(0, rows.num_rows, CHUNK_ROWS):
            lines.writelines(line + b"\n" for line in encode(rows.slice(at, CHUNK_ROWS).combine_chunks()).to_pylist())
    return file


@contextmanager
def _emulator(folder: Path) -> Iterator[None]:
    """BigQuery's, with the table, while the block runs."""
    with bigquery_emulator(BQEMU_GCS_LOCAL_ROOT=str(folder)) as client:
        client.create_dataset(TABLE.partition(".")[0])
        client.create_table(bigquery.Table(f"{PROJECT}.{TABLE}", schema=COLUMNS))
        config = bigquery.LoadJobConfig(source_format=bigquery.SourceFormat.PARQUET)
        client.load_table_from_uri(f"gs://{BUCKET}/rows.parquet", TABLE, job_config=config).result(
            timeout=START_SECONDS
        )
        yield
