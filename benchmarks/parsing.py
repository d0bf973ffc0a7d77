"""How long Airflow's own DAG processor takes for a DAG file, by the number of specs and of files that share them.

The processor has Airflow imported when it begins with a file: what it takes is Rejeu's, from import to DAG.
It gives a file 30 s (`core.dagbag_import_timeout`). Its database is an SQLite file here.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.section import Options, Result, figures_table, steps
from rejeu.cli.folders import examples
from rejeu.errors import RejeuError

AIRFLOW: Final = str(Path(sys.executable).with_name("airflow"))
PATIENCE_SECONDS: Final = 1_800.0
SPEC: Final = """\
stream: {name}
description: Orders of a shop, one of many that are alike.
owner: benchmarks
event_time: happened_at
key: [order]
batch:
  files: gs://{{bucket}}/{name}/dt={{partition}}/*.ndjson
  table: shop.{name}_batch
live: {{topic: {name}, table: shop.{name}}}
replay: {{source: {{table: shop.{name}_history}}}}
"""
DAG_FILE: Final = """\
from rejeu.airflow.loader import load_dags

for dag in load_dags(__file__, number={number}, of={of}):
    globals()[dag.dag_id] = dag
"""
LEGEND: Final = (
    "Seconds are of the slowest DAG file, and may be 30; milliseconds are those of all files, by the number of specs. "
    "Errors are files of which Airflow made nothing. The patrol's file reads no spec."
)


@dataclass(frozen=True)
class Scale:
    """So many specs, in so many DAG files."""

    specs: int
    files: int = 1


SCALES: tuple[Scale, ...] = (Scale(5), Scale(100), Scale(1_000, 4), Scale(5_000, 20))


@dataclass(frozen=True)
class Run:
    """What the DAG processor has written down of one pass over all files."""

    specs: int
    files: int
    dags: int
    errors: int
    slowest_seconds: float
    ms_a_spec: float
    patrol_seconds: float


def parsing(options: Options) -> Result:
    """A pass of the DAG processor over each of `SCALES`."""
    table = figures_table(1, "specs", "DAG files", "DAGs", "errors", "slowest file s", "ms a spec", "patrol s")
    runs = [_measure(scale) for scale in steps("parsing", SCALES)]
    for run in runs:
        seconds = (f"{run.slowest_seconds:.2f}", f"{run.ms_a_spec:.1f}", f"{run.patrol_seconds:.2f}")
        table.add_row(f"{run.specs:,}", f"{run.files}", f"{run.dags:,}", f"{run.errors}", *seconds)
    return Result(table, LEGEND, [asdict(run) for run in runs])


def _measure(scale: Scale) -> Run:
    with tempfile.TemporaryDirectory(prefix="rejeu-parsing-") as folder:
        home = Path(folder)
        _write(home / "dags", scale)
        environment = _environment(home)
        _airflow(["db", "migrate"], environment)
        _airflow(["dag-processor", "--num-runs", "1"], environment)
        return _read(home / "airflow.db", scale)


def _write(dags: Path, scale: Scale) -> None:
    (dags / "streams").mkdir(parents=True)
    for number in range(scale.specs):
        name = f"stream_{number:05}"
        (dags / "streams" / f"{name}.yaml").write_text(SPEC.format(name=name), encoding="utf-8")
    for number in range(scale.files):
        text = DAG_FILE.format(number=number, of=scale.files)
        (dags / f"streams_{number}.py").write_text(text, encoding="utf-8")
    shutil.copy(examples() / "patrol.py", dags)


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "REJEU_"))}
    return kept | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        # One at a time: each file's seconds are to be its own.
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "REJEU_PROJECT": "rejeu-bench",
        "REJEU_BUCKET": "rejeu-bench",
        "REJEU_HOME": str(home / "rejeu"),
    }


def _airflow(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [AIRFLOW, *command], env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    if done.returncode:
        raise RejeuError(f"`airflow {' '.join(command)}` ended with {done.returncode}: {done.stderr[-1_000:]}")


def _read(database: Path, scale: Scale) -> Run:
    with closing(sqlite3.connect(database)) as opened:
        found = opened.execute("SELECT relative_fileloc, count(*), max(last_parse_duration) FROM dag GROUP BY 1")
        files = {name: (dags, seconds) for name, dags, seconds in found}
        (errors,) = opened.execute("SELECT count(*) FROM import_error").fetchone()
    patrol = files.pop("patrol.py", (0, 0.0))
    seconds = [each for _, each in files.values()]
    return Run(
        specs=scale.specs,
        files=scale.files,
        dags=sum(dags for dags, _ in files.values()),
        errors=errors,
        slowest_seconds=max(seconds, default=0.0),
        ms_a_spec=sum(seconds) / scale.specs * 1e3,
        patrol_seconds=patrol[1],
    )
