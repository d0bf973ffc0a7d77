"""The one stack of these tests, and what its Airflow has: the demo's feed, one of one's own, a broken one, a DAG."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rejeu.local.processes.leftovers import marked
from rejeu.local.stack.parts import DEMO_DATA, PARTS
from rejeu.local.stack.settings import stack_id
from rejeu.local.stack.stack import Stack
from tests.paths import ROOT

MACHINES = """
stream: machines
event_time: happened_at
key: [machine, number]
live:
  topic: machines
  table: factory.machines
replay:
  source: {{files: {file}}}
  standby: true
  ordering_key: [machine]
"""
BROKEN = """
stream: broken
event_time: happened_at
live: {topic: broken, table: factory.broken}
replay: {source: {table: factory.raw}, sped: 2}
"""
LAUNCHER = """
import os
import subprocess
from datetime import datetime
from pathlib import Path
from airflow.sdk import dag, task

@dag(schedule=None, start_date=datetime(2024, 1, 1), is_paused_upon_creation=False)
def launcher():
    @task
    def launch():
        silence = subprocess.DEVNULL
        command = ["sleep", "600"]
        job = subprocess.Popen(command, stdin=silence, stdout=silence, stderr=silence, start_new_session=True)
        Path(os.environ["REJEU_HOME"], "launched").write_text(str(job.pid))
    launch()

launcher()
"""


@pytest.fixture(scope="module")
def machine_rows() -> int:
    """How many rows the feed of one's own has."""
    return 1500


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory, machine_rows: int) -> Path:
    """The demo's feed; a second one, of other columns, from a file; and a spec that is wrong."""
    folder = tmp_path_factory.mktemp("streams")
    shutil.copy(ROOT / "dags" / "streams" / "crypto_rates.yaml", folder)
    begin = datetime(2024, 2, 29, 23, 50, tzinfo=UTC)
    rows = [
        {
            "happened_at": begin + timedelta(seconds=2 * n),
            "machine": f"m{n % 7}",
            "number": n,
            "tags": ["a", "b"][: n % 3],
        }
        for n in range(machine_rows)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "machines.parquet")
    (folder / "machines.yaml").write_text(MACHINES.format(file=folder / "machines.parquet"))
    (folder / "broken.yaml").write_text(BROKEN)
    return folder


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, streams: Path) -> Iterator[Stack]:
    home, dags = tmp_path_factory.mktemp("stack"), tmp_path_factory.mktemp("dags")
    for file in (ROOT / "dags").glob("*.py"):
        shutil.copy(file, dags)
    (dags / "launcher.py").write_text(LAUNCHER)
    with pytest.MonkeyPatch.context() as environment:
        for name in ("PUBSUB_EMULATOR_HOST", "REJEU_STACK", "REJEU_UI_PORT"):
            environment.delenv(name, raising=False)
        environment.setenv("REJEU_STREAMS", str(streams))
        environment.setenv("REJEU_SPEED", "60")
        stack = Stack(dags, home)
        try:
            stack.up(parts=(*PARTS, DEMO_DATA))
            for name, value in stack.variables().items():
                environment.setenv(name, value)
            yield stack
        finally:
            stack.down()
    assert marked(stack_id(home.resolve())) == []
    assert {status.state for status in stack.status()} == {"stopped"}
