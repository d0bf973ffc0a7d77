"""How long after its publishing a query returns a row, at a low rate and at a high one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Final

import msgspec
import numpy as np
from google.cloud import bigquery
from google.cloud.pubsub_v1 import PublisherClient
from rich.table import Table

from benchmarks.feed import TOPIC
from benchmarks.measure import spread
from benchmarks.processes import wait_until
from benchmarks.section import Options, Result, figures_table, steps
from benchmarks.streaming_job import JobFeed, feed_of, streaming_servers
from rejeu.message import ROW_ID
from rejeu.timeline import format_instant

RATES: Final = (50, 500)
SECONDS: Final = 10
POLL_SECONDS: Final = 0.1
LEGEND: Final = (
    "Milliseconds from handing a row to Google's client to the end of the first query that returns it, by the local "
    f"streaming job, pipeline passthrough, on BigQuery's emulator. A query starts {POLL_SECONDS * 1e3:g} ms after the "
    "last one has ended; the time of the queries is shown, too: each occupies the emulator's one thread."
)


@dataclass(frozen=True)
class Run:
    """One job at so many rows a second; milliseconds until rows are seen, and of the queries."""

    rate: int
    rows: int
    seen_ms: dict[str, float]
    query_ms: dict[str, float]


def freshness(options: Options) -> Result:
    """Ten seconds at each rate, every round."""
    schedule = [rate for _ in range(options.rounds) for rate in RATES]
    with streaming_servers() as client:
        runs = [_run(client, rate) for rate in steps("Freshness", schedule)]
    legend = f"Publish to queryable, {SECONDS} s a run, medians of {options.rounds} rounds. {LEGEND}"
    return Result(table(runs), legend, [asdict(each) for each in runs])


def table(runs: Sequence[Run]) -> Table:
    """The runs by rate, for a person to read."""
    made = figures_table(0, "rows/s", "p50", "p95", "max", "query p50", "p95", "max")
    for rate in dict.fromkeys(each.rate for each in runs):
        own = [each for each in runs if each.rate == rate]
        cells = [
            f"{median(each[name] for each in found):,.0f}"
            for found in ([run.seen_ms for run in own], [run.query_ms for run in own])
            for name in ("p50", "p95", "max")
        ]
        made.add_row(f"{rate:,}", *cells)
    return made


def _run(client: bigquery.Client, rate: int) -> Run:
    count = rate * SECONDS
    with feed_of(client, "passthrough") as feed, feed.job(), PublisherClient() as publisher:
        _publish(publisher, -1)
        wait_until(lambda: len(_rows_from(feed, -1)) == 1, "the job wrote nothing", poll_seconds=POLL_SECONDS)
        publishing = threading.Thread(target=_publish_paced, args=(publisher, rate, count))
        publishing.start()
        seen_us, query_us = _look(feed, count)
        publishing.join()
    return Run(rate, count, spread(seen_us, 1e3, tail=0.95), spread(query_us, 1e3, tail=0.95))


def _publish_paced(publisher: PublisherClient, rate: int, count: int) -> None:
    started = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, started + number / rate - time.monotonic()))
        _publish(publisher, number)


def _publish(publisher: PublisherClient, number: int) -> None:
    body = msgspec.json.encode({"happened": format_instant(datetime.now(UTC)), "n": number})
    publisher.publish(TOPIC, body, **{ROW_ID: f"bench/{number}/{number}/0"})


def _look(feed: JobFeed, count: int) -> tuple[np.ndarray, np.ndarray]:
    """How old each row was when it was first seen, and how long the queries took, in microseconds."""
    age_us: dict[int, float] = {}
    query_us = []
    while len(age_us) < count:
        time.sleep(POLL_SECONDS)
        first = next(number for number in range(len(age_us) + 1) if number not in age_us)
        asked = time.perf_counter()
        rows = _rows_from(feed, first)
        query_us.append((time.perf_counter() - asked) * 1e6)
        now = datetime.now(UTC)
        for number, happened in rows:
            age_us.setdefault(number, (now - happened).total_seconds() * 1e6)
    return np.array(list(age_us.values())), np.array(query_us)


def _rows_from(feed: JobFeed, first: int) -> list[tuple[int, datetime]]:
    return feed.ask(f"SELECT n, happened FROM {{table}} WHERE n >= {first}")
