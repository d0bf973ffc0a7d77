"""A real Airflow on this machine runs every DAG: the demo, a feed of one's own, a backfill, a stop, a broken spec.

The stack is started once for the whole module; its tests go on from each other's tables, in the order they stand.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import psutil
import pytest
from google.cloud import bigquery

from rejeu.gcp.clients import bigquery_client, storage_client
from rejeu.local.demos.result import Result
from rejeu.local.demos.run import Demo
from rejeu.local.processes.leftovers import marked
from rejeu.local.stack.airflow_api import AirflowApi
from rejeu.local.stack.parts import PARTS
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


def eventually(true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)


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
    stack: Stack, airflow: AirflowApi, client: bigquery.Client, target: Target, machine_rows: int
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
    assert 0 < stopped.published < machine_rows
    airflow.follow("machines.live", airflow.trigger("machines.live"), PATIENCE_SECONDS, print)
    eventually(lambda: state_of(target, "machines").status is Status.FINISHED, "the end of the file")
    eventually(lambda: one(client, "SELECT COUNT(*) FROM factory.machines_live") == machine_rows, "the last rows")
    assert one(client, "SELECT COUNT(DISTINCT number) FROM factory.machines_live") == machine_rows
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
    stack: Stack, airflow: AirflowApi, client: bigquery.Client, machine_rows: int
) -> None:
    (job,) = _stream_jobs(stack, "machines")
    job.kill()
    job.wait()
    eventually(lambda: _stream_jobs(stack, "machines"), "another streaming job")
    client.query("DELETE FROM factory.machines WHERE MOD(number, 10) = 3 OR number < 40").result()
    lost = machine_rows - one(client, "SELECT COUNT(*) FROM factory.machines_live")
    assert lost > 40
    airflow.follow("machines.reconcile", airflow.trigger("machines.reconcile"), PATIENCE_SECONDS, print)
    assert one(client, "SELECT COUNT(*) FROM factory.machines_live") == machine_rows
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


# The parts, which are as they were after all of it


def states(stack: Stack) -> dict[str, str]:
    return {status.part: status.state for status in stack.status()}


def pid_of(stack: Stack, part: str) -> int | None:
    return next(status.pid for status in stack.status() if status.part == part)


def airflow_is_well(stack: Stack) -> bool:
    health = httpx.get(f"{stack.ui_url}/api/v2/monitor/health", trust_env=False)
    return health.is_success and {part["status"] for part in health.json().values()} == {"healthy"}


def test_every_part_runs_and_airflow_is_well(stack: Stack) -> None:
    assert states(stack) == dict.fromkeys(PARTS, "running")
    eventually(lambda: airflow_is_well(stack), "Airflow's health")


def test_a_second_up_says_that_it_is_up(stack: Stack) -> None:
    before, said = stack.status(), list[str]()
    stack.up(said.append)
    assert "up already" in said[-1]
    assert stack.status() == before


def test_secrets_are_for_their_owner_only(target: Target) -> None:
    secret = [target.home / "stack.json", target.home / "keys.json", target.home / "airflow" / "passwords.json"]
    assert [file.stat().st_mode & 0o777 for file in (target.home, *secret)] == [0o700, 0o600, 0o600, 0o600]


def test_clients_of_the_environment_reach_every_emulator_unpatched(stack: Stack) -> None:
    program = (
        "from google.cloud import bigquery, pubsub_v1, storage\n"
        "print(next(iter(bigquery.Client().query('SELECT 40 + 2').result()))[0])\n"
        "print(*[bucket.name for bucket in storage.Client().list_buckets()])\n"
        "print(pubsub_v1.PublisherClient().create_topic(name='projects/rejeu-local/topics/any').name)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], env=stack.env(), capture_output=True, text=True)
    assert ran.stdout.split() == ["42", "rejeu-local-bucket", "projects/rejeu-local/topics/any"], ran.stderr


def test_a_job_outlives_the_task_that_started_it(stack: Stack, airflow: AirflowApi, target: Target) -> None:
    """And the stack's fixture sees that it does not outlive the stack."""
    airflow.follow("launcher", airflow.trigger("launcher"), PATIENCE_SECONDS, print)
    job = psutil.Process(int((target.home / "launched").read_text()))
    assert job.is_running()
    assert job.ppid() != pid_of(stack, "scheduler")
    assert job in marked(stack.env()["REJEU_CLIENT"])


def test_a_part_that_is_killed_comes_back(stack: Stack) -> None:
    killed = pid_of(stack, "triggerer")
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: pid_of(stack, "triggerer") not in (killed, None), "another triggerer")
    eventually(lambda: states(stack)["triggerer"] == "running" and airflow_is_well(stack), "a triggerer that is well")


def test_logs_name_their_parts(stack: Stack) -> None:
    assert {line.split("|")[0].strip() for line in stack.logs(follow=False)} >= {"scheduler", "bigquery"}
