"""A real Airflow on this machine runs every DAG: the demo, a feed of one's own, a backfill, a stop, a broken spec.

The stack is started once for the whole module; its tests go on from each other's tables, in the order they stand.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.cloud import bigquery

from rejeu.gcp.clients import bigquery_client, storage_client
from rejeu.local.demos.result import Result
from rejeu.local.demos.run import Demo
from rejeu.local.processes.leftovers import marked
from rejeu.local.stack.airflow_api import AirflowApi
from rejeu.local.stack.parts import DEMO_DATA, PARTS
from rejeu.local.stack.stack import Stack
from rejeu.replay.source.generators.oracle_requests import OracleRequests
from rejeu.spec.files import read_spec
from rejeu.state import open_store
from rejeu.state.lease import read_state
from rejeu.state.model import Status, StreamState
from rejeu.target import Target
from tests.paths import ROOT

pytestmark = [pytest.mark.emulated, pytest.mark.timeout(1200)]

PATIENCE_SECONDS = 120.0
MACHINE_ROWS = 1500
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


def eventually(true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
        for n in range(MACHINE_ROWS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "machines.parquet")
    (folder / "machines.yaml").write_text(MACHINES.format(file=folder / "machines.parquet"))
    (folder / "broken.yaml").write_text(BROKEN)
    return folder


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, streams: Path) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("stack")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("PUBSUB_EMULATOR_HOST", "REJEU_STACK", "REJEU_UI_PORT"):
            environment.delenv(name, raising=False)
        environment.setenv("REJEU_STREAMS", str(streams))
        environment.setenv("REJEU_SPEED", "60")
        stack = Stack(ROOT / "dags", home)
        try:
            stack.up(parts=(*PARTS, DEMO_DATA))
            for name, value in stack.variables().items():
                environment.setenv(name, value)
            yield stack
        finally:
            stack.down()


@pytest.fixture(scope="module")
def target(stack: Stack) -> Target:
    return Target.from_env(stack.env())


@pytest.fixture(scope="module")
def airflow(stack: Stack) -> AirflowApi:
    return AirflowApi(stack.ui_url, stack.login.user, stack.login.password)


@pytest.fixture(scope="module")
def client(target: Target) -> bigquery.Client:
    return bigquery_client(target.project)


@pytest.fixture(scope="module")
def demo(stack: Stack) -> Result:
    """The demo's own steps: batch, hand-over, stream, SIGKILL, repair, comparison."""
    spec = read_spec(ROOT / "dags" / "streams" / "crypto_rates.yaml")
    return Demo(spec, stack, print).run(time.monotonic())


def one(client: bigquery.Client, query: str) -> int:
    (row,) = client.query(query).result()
    return int(row[0])


def state_of(target: Target, stream: str) -> StreamState:
    state = read_state(open_store(target.state), stream)
    assert state is not None
    return state


def loaded_day(target: Target) -> date:
    return date.fromisoformat(json.loads((target.home / "demo-data.json").read_text())["day"])


def test_every_row_is_in_the_live_view_once_although_the_replay_was_killed(demo: Result) -> None:
    assert demo.exact
    assert demo.expected_rows == demo.batch_rows + demo.streamed_rows
    assert demo.batch_rows > 0
    assert demo.streamed_rows > 0
    assert demo.dead_letters == 0


def test_one_silence_is_one_incident_with_its_times_in_order(demo: Result) -> None:
    assert demo.incidents == 1
    assert demo.killed_at < demo.detected_at < demo.relaunched_at < demo.resumed_at


@pytest.mark.usefixtures("demo")
def test_the_incident_says_what_was_owed_and_that_nothing_was_lost(client: bigquery.Client, target: Target) -> None:
    (incident,) = client.query(f"SELECT * FROM `{target.incidents}`").result()
    assert incident["stream"] == "crypto_rates"
    assert incident["rows_owed"] > 0
    assert incident["rows_lost"] == 0
    assert incident["gap_seconds"] > 0


@pytest.mark.usefixtures("demo")
def test_a_day_that_is_loaded_again_is_as_if_loaded_once(
    airflow: AirflowApi, client: bigquery.Client, target: Target
) -> None:
    before = rows_by_day(client)
    run_id = airflow.trigger("crypto_rates.batch", partition=loaded_day(target).isoformat())
    airflow.follow("crypto_rates.batch", run_id, PATIENCE_SECONDS, print)
    assert rows_by_day(client) == before


@pytest.mark.usefixtures("demo")
def test_a_backfill_fills_a_range_of_days_and_no_other(
    stack: Stack, airflow: AirflowApi, client: bigquery.Client, target: Target
) -> None:
    last = loaded_day(target) - timedelta(days=5)
    days = [last - timedelta(days=1), last]
    before = rows_by_day(client)
    for day in days:
        write_day(target, day)
    span = ["--from-date", str(days[0]), "--to-date", str(days[-1] + timedelta(days=1))]
    command = ["airflow", "backfill", "create", "--dag-id", "crypto_rates.batch", *span]
    subprocess.run(command, env=stack.env(), check=True)
    eventually(lambda: len(_backfills(airflow)) == len(days), "the backfill's runs")
    for run_id in _backfills(airflow):
        airflow.follow("crypto_rates.batch", run_id, PATIENCE_SECONDS, print)
    after = rows_by_day(client)
    assert all(after.pop(day) > 0 for day in days)
    assert after == before


def _backfills(airflow: AirflowApi) -> list[str]:
    return [run["dag_run_id"] for run in airflow.runs("crypto_rates.batch") if run["run_type"] == "backfill"]


def write_day(target: Target, day: date) -> None:
    """Half an hour of raw files, where the spec says that they lie."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    requests = OracleRequests(start=noon, minutes=30, every=20, first_id=day.toordinal() * 1_000)
    blob = storage_client(target.project).bucket(target.bucket).blob(f"crypto_rates/dt={day}/part-0.ndjson")
    blob.upload_from_string(b"".join(requests.lines()))


def rows_by_day(client: bigquery.Client) -> dict[date, int]:
    query = "SELECT DATE(timestamp) AS day, COUNT(*) AS found FROM temp_crypto_batch.batch_timestamp GROUP BY day"
    return {row["day"]: row["found"] for row in client.query(query).result()}


@pytest.mark.usefixtures("demo")
def test_a_load_job_outside_of_airflow_ends_the_wait_for_it(
    airflow: AirflowApi, client: bigquery.Client, target: Target
) -> None:
    day = loaded_day(target)
    run_id = airflow.trigger("crypto_rates.batch", partition=day.isoformat(), loaded_by="elsewhere")
    eventually(lambda: _task_state(airflow, run_id, "await_load_job") == "deferred", "a wait without a worker slot")
    row = {"timestamp": f"{day}T12:00:00Z", "request": "elsewhere", "symbol": "BTC", "rate": 1.0, "date_str": ""}
    storage_client(target.project).bucket(target.bucket).blob("elsewhere.ndjson").upload_from_string(json.dumps(row))
    configuration = bigquery.LoadJobConfig(
        source_format="NEWLINE_DELIMITED_JSON", write_disposition=bigquery.WriteDisposition.WRITE_APPEND
    )
    uri, table = f"gs://{target.bucket}/elsewhere.ndjson", "temp_crypto_batch.batch_timestamp"
    client.load_table_from_uri(uri, table, job_config=configuration).result()
    airflow.follow("crypto_rates.batch", run_id, PATIENCE_SECONDS, print)
    assert _task_state(airflow, run_id, "prepare") == "skipped"


def _task_state(airflow: AirflowApi, run_id: str, task_id: str) -> str | None:
    states = {task["task_id"]: task["state"] for task in airflow.tasks("crypto_rates.batch", run_id)}
    return states.get(task_id)


def test_a_feed_of_ones_own_streams_by_the_same_dags_through_a_kill_and_a_stop_on_the_way(
    stack: Stack, airflow: AirflowApi, client: bigquery.Client, target: Target
) -> None:
    eventually(lambda: "machines.live" in airflow.dag_ids(), "the second feed's DAGs")
    airflow.follow("machines.live", airflow.trigger("machines.live"), PATIENCE_SECONDS, print)
    eventually(lambda: state_of(target, "machines").published > 0, "the first rows")
    first = state_of(target, "machines")
    assert first.holder_process is not None
    os.kill(first.holder_process[1], signal.SIGKILL)
    eventually(lambda: state_of(target, "machines").epoch > first.epoch, "the standby")
    eventually(lambda: len(_replays(stack, "machines")) == 2, "another one that stands by")
    airflow.follow("machines.stop", airflow.trigger("machines.stop"), PATIENCE_SECONDS, print)
    stopped = state_of(target, "machines")
    assert stopped.status is Status.STOPPED
    assert not stopped.wanted
    assert 0 < stopped.published < MACHINE_ROWS
    airflow.follow("machines.live", airflow.trigger("machines.live"), PATIENCE_SECONDS, print)
    eventually(lambda: state_of(target, "machines").status is Status.FINISHED, "the end of the file")
    eventually(lambda: one(client, "SELECT COUNT(*) FROM factory.machines_live") == MACHINE_ROWS, "the last rows")
    assert one(client, "SELECT COUNT(DISTINCT number) FROM factory.machines_live") == MACHINE_ROWS
    assert one(client, "SELECT COUNT(*) FROM factory.machines_dead_letters") == 0


def test_neither_a_takeover_nor_a_stop_that_was_asked_for_is_taken_for_silence(
    airflow: AirflowApi, client: bigquery.Client
) -> None:
    """The watchdog had all the time of the test before this one to take it so; it only restored what lacked."""
    runs = [run["dag_run_id"] for run in airflow.runs("machines.watchdog")]
    tasks = [task for run_id in runs for task in airflow.tasks("machines.watchdog", run_id)]
    assert {task["state"] for task in tasks if task["task_id"] == "relaunch"} == {"skipped"}
    assert "success" in {task["state"] for task in tasks if task["task_id"] == "restore"}
    assert one(client, "SELECT COUNT(*) FROM rejeu.incidents WHERE stream = 'machines'") == 0


def test_a_streaming_job_that_died_comes_back_and_rows_that_its_table_lost_are_published_again(
    stack: Stack, airflow: AirflowApi, client: bigquery.Client
) -> None:
    (job,) = _stream_jobs(stack, "machines")
    job.kill()
    job.wait()
    eventually(lambda: _stream_jobs(stack, "machines"), "another streaming job")
    client.query("DELETE FROM factory.machines WHERE MOD(number, 10) = 3 OR number < 40").result()
    lost = MACHINE_ROWS - one(client, "SELECT COUNT(*) FROM factory.machines_live")
    assert lost > 40
    airflow.follow("machines.reconcile", airflow.trigger("machines.reconcile"), PATIENCE_SECONDS, print)
    assert one(client, "SELECT COUNT(*) FROM factory.machines_live") == MACHINE_ROWS
    assert one(client, "SELECT healed FROM rejeu.reconciliations WHERE stream = 'machines'") == lost


def test_live_runs_that_meet_never_start_a_second_streaming_job(stack: Stack, airflow: AirflowApi) -> None:
    runs = [airflow.trigger("machines.live") for _ in range(2)]
    for run_id in runs:
        airflow.follow("machines.live", run_id, PATIENCE_SECONDS, print)
    assert len(_stream_jobs(stack, "machines")) == 1


def _replays(stack: Stack, stream: str) -> list[psutil.Process]:
    """Those that run, without the shells that keep them."""
    return [process for process in marked(stack.env()["REJEU_CLIENT"]) if _is_replay(process.cmdline(), stream)]


def _is_replay(command: list[str], stream: str) -> bool:
    return command[1:3] == ["-m", "rejeu.replay"] and f"--stream={stream}" in command


def _stream_jobs(stack: Stack, stream: str) -> list[psutil.Process]:
    return [process for process in marked(stack.env()["REJEU_CLIENT"]) if _is_stream_job(process.cmdline(), stream)]


def _is_stream_job(command: list[str], stream: str) -> bool:
    return command[1:3] == ["-m", "beam_jobs.stream"] and f"--stream={stream}" in command


def test_a_broken_spec_shows_itself_as_a_dag_and_leaves_the_others_alone(airflow: AirflowApi) -> None:
    found = [dag_id for dag_id in airflow.dag_ids() if dag_id.startswith("broken")]
    assert found == ["broken.invalid"]
    page = airflow.documentation("broken.invalid")
    assert "replay.sped" in page
    assert "there is no such field" in page
    assert "broken.yaml" in page
