"""A real reconciliation: rows that are taken out of the table come back through the topic and the streaming job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud import bigquery

from rejeu.bigquery import sql
from rejeu.gcp.clients import bigquery_client
from rejeu.jobs.flags import Request
from rejeu.jobs.request import ReconcileRequest, ReplayRequest, StreamJobRequest
from rejeu.reconcile import Reconciliation
from rejeu.spec.columns import DEAD_LETTER_COLUMNS, ROW_ID_COLUMN
from rejeu.spec.pipelines import PIPELINES
from rejeu.timeline import format_instant, to_us
from tests.beam_jobs.builders import make_request
from tests.emulated.pubsub_feed import PROJECT_ID, Feed, built_in_only
from tests.paths import PLUGINS, ROOT
from tests.servers import BigQuery

pytestmark = [pytest.mark.emulated, built_in_only]

STREAM = "rates"
BEGIN = datetime(2021, 5, 1, tzinfo=UTC)
MESSAGES = 240
REFUSED = 100
END = BEGIN + timedelta(seconds=MESSAGES)
COLUMNS = PIPELINES["rates"].columns or ()
READY_SECONDS = 120
PATIENCE_SECONDS = 3.0


@pytest.fixture(scope="module", autouse=True)
def _jobs_find_our_code(bigquery_here: BigQuery) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", f"{PLUGINS}:{ROOT}")
        yield


def row_ids(number: int) -> list[str]:
    """What the request of this number must become: two rows, or one dead letter."""
    row_id = f"{STREAM}/{to_us(BEGIN + timedelta(seconds=number))}/{number}/0"
    return [row_id] if number == REFUSED else [f"{row_id}#0", f"{row_id}#1"]


EXPECTED = {each for number in range(MESSAGES) if number != REFUSED for each in row_ids(number)}


@dataclass
class Stream:
    """A feed with its source, its tables and its jobs, each job a process."""

    feed: Feed
    folder: Path
    client: bigquery.Client
    jobs: list[subprocess.Popen[Any]] = field(default_factory=list)

    @property
    def dataset(self) -> str:
        return f"{PROJECT_ID}.{self.feed.topic.rpartition('/')[2]}"

    def create(self) -> None:
        """Tables without rows, and four minutes of requests, one a second, as a file."""
        self.client.create_dataset(self.dataset)
        for name, columns in (("rates", (*COLUMNS, ROW_ID_COLUMN)), ("dead", DEAD_LETTER_COLUMNS)):
            schema = [bigquery.SchemaField.from_api_repr(column.to_api()) for column in columns]
            self.client.create_table(bigquery.Table(f"{self.dataset}.{name}", schema=schema))
        with (self.folder / "requests.ndjson").open("w") as file:
            for number in range(MESSAGES):
                at = format_instant(BEGIN + timedelta(seconds=number))
                multiplier = 0 if number == REFUSED else 1_000_000
                body = make_request(number, multiplier=multiplier, block_timestamp_truncated=at)
                file.write(json.dumps(body) + "\n")

    def replay(self) -> None:
        request = ReplayRequest.of(**self._source(), speed="max")
        subprocess.run(
            [sys.executable, "-m", request.module, *request.to_argv()], check=True, stderr=subprocess.DEVNULL
        )

    def start_job(self) -> None:
        """A streaming job that runs; one that ran before is killed, and with it what it remembers."""
        self.kill_jobs()
        request = StreamJobRequest.of(
            stream=STREAM,
            pipeline="rates",
            subscription=self.feed.subscription,
            table=f"{self.dataset}.rates",
            dead_letters=f"{self.dataset}.dead",
            event_time="timestamp",
        )
        with (self.folder / "job.log").open("a") as log:
            self.jobs.append(self._popen(request, stdout=subprocess.PIPE, stderr=log, text=True))
        said = self.jobs[-1].stdout.readline() if self.jobs[-1].stdout else ""
        assert str(request.ready_text) in said, (self.folder / "job.log").read_text()

    def kill_jobs(self) -> None:
        for job in self.jobs:
            job.kill()
            job.communicate()
        self.jobs.clear()

    def reconcile(self) -> tuple[int, str, Reconciliation]:
        """Exit code, last words and report of a reconciliation of the whole time."""
        report = self.folder / "reports" / "report.json"
        request = ReconcileRequest.of(
            **self._source(),
            from_=BEGIN,
            until=END,
            pipeline="rates",
            streaming_table=f"{self.dataset}.rates",
            streaming_time="timestamp",
            dead_letters=f"{self.dataset}.dead",
            report=str(report),
            settle_seconds=0.1,
            patience_seconds=PATIENCE_SECONDS if not self.jobs else READY_SECONDS,
        )
        done = self._popen(request, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        _, complaint = done.communicate(timeout=READY_SECONDS)
        assert report.read_text(), complaint
        return done.returncode, complaint, Reconciliation.model_validate_json(report.read_text())

    def rows(self) -> Counter[str]:
        """How often each id is in the table."""
        return Counter(str(row["row_id"]) for row in self.run(f"SELECT row_id FROM `{self.dataset}.rates`"))

    def letters(self) -> list[str]:
        return [str(row["row_id"]) for row in self.run(f"SELECT row_id FROM `{self.dataset}.dead`")]

    def live(self) -> list[str]:
        """The requests and symbols that the live view shows."""
        view = sql.live_view(f"{self.dataset}.rates", None, "timestamp", [column.name for column in COLUMNS])
        return sorted(f"{row['request']} {row['symbol']}" for row in self.run(view))

    def lose(self, condition: str) -> None:
        self.run(f"DELETE FROM `{self.dataset}.rates` WHERE {condition}")

    def add(self, row_id: str) -> None:
        values = {"timestamp": format_instant(BEGIN), "request": "0", "symbol": "BTC", "row_id": row_id}
        assert self.client.insert_rows_json(f"{self.dataset}.rates", [values]) == []

    def run(self, text: str) -> list[bigquery.Row]:
        return list(self.client.query(text, timeout=READY_SECONDS).result(timeout=READY_SECONDS))

    def eventually(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not true():
            assert time.monotonic() < deadline, f"waited in vain for {what}: {(self.folder / 'job.log').read_text()}"
            time.sleep(0.1)

    def _source(self) -> dict[str, Any]:
        return {
            "topic": self.feed.topic,
            "stream": STREAM,
            "file": str(self.folder / "requests.ndjson"),
            "event_time": "block_timestamp_truncated",
            "key": ("oracle_request_id",),
        }

    def _popen(self, request: Request, **options: Any) -> subprocess.Popen[Any]:
        return subprocess.Popen([sys.executable, "-m", request.module, *request.to_argv()], env=os.environ, **options)


@pytest.fixture
def stream(feed: Feed, tmp_path: Path) -> Iterator[Stream]:
    """A stream whose every row is in its table."""
    with closing(bigquery_client(PROJECT_ID)) as client:
        made = Stream(feed, tmp_path, client)
        made.create()
        try:
            made.start_job()
            made.replay()
            made.eventually(lambda: set(made.rows()) == EXPECTED and len(made.letters()) == 1, "all rows")
            yield made
        finally:
            made.kill_jobs()


def test_holes_are_found_and_healed_exactly(stream: Stream) -> None:
    stream.start_job()
    whole = stream.live()
    stream.lose("`timestamp` >= TIMESTAMP '2021-05-01T00:01:00Z' AND `timestamp` < TIMESTAMP '2021-05-01T00:02:00Z'")
    stream.lose("MOD(CAST(request AS INT64), 10) = 0")
    stream.lose("request = '7' AND symbol = 'ETH'")
    lost = EXPECTED - set(stream.rows())
    stream.add(row_ids(5)[0])
    stream.add(f"{STREAM}/{to_us(BEGIN)}/nobody/0#0")
    stream.add("8127349812")

    code, complaint, report = stream.reconcile()
    assert (code, complaint) == (0, "")
    assert len(lost) == 2 * (59 + 18) + 1
    assert (report.expected, report.missing, report.healed, report.still_missing) == (479, len(lost), len(lost), 0)
    assert (report.minutes, report.dead_letters, report.doubles, report.unexpected) == (4, 1, 1, 2)
    rows = stream.rows()
    assert set(rows) > EXPECTED
    # Of the request that had lost one row of two, the other one came twice: its id removes it from the live view.
    assert {each for each in rows if rows[each] > 1} == {row_ids(5)[0], row_ids(7)[0]}

    again_code, _, again = stream.reconcile()
    assert again_code == 0
    assert (again.missing, again.doubles, again.unexpected) == (0, 2, 2)
    assert stream.rows() == rows
    stream.lose("row_id LIKE '%nobody%' OR row_id = '8127349812'")
    assert stream.live() == whole


def test_a_dead_letter_that_was_lost_comes_again(stream: Stream) -> None:
    stream.start_job()
    stream.run(f"DELETE FROM `{stream.dataset}.dead` WHERE TRUE")
    code, _, report = stream.reconcile()
    assert (code, report.missing, report.healed) == (0, 1, 1)
    assert stream.letters() == row_ids(REFUSED)


def test_where_nobody_writes_rows_are_missing_still_and_it_says_what_to_look_at(stream: Stream) -> None:
    stream.kill_jobs()
    stream.lose("request = '7'")
    code, complaint, report = stream.reconcile()
    assert code == 1
    assert "rates: 2 rows are still missing 3 s after the last one came" in complaint
    assert "check whether the streaming job runs" in complaint
    assert (report.missing, report.healed, report.still_missing) == (2, 0, 2)
    stream.start_job()
    stream.eventually(lambda: set(stream.rows()) == EXPECTED, "what waited in the subscription")
