"""The speed of the local streaming job from Pub/Sub to BigQuery, against Beam's own read and write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final

import msgspec
from google.cloud import bigquery
from google.cloud.pubsub_v1 import PublisherClient
from rich.table import Table

from beam_jobs.pipelines.rates.transform import make_decoder
from benchmarks.decoding import message
from benchmarks.feed import START, TOPIC
from benchmarks.measure import Stopwatch
from benchmarks.processes import wait_until
from benchmarks.section import Options, Result, figures_table, steps
from benchmarks.streaming_job import BEAMS, JobFeed, feed_of, streaming_servers
from benchmarks.subjects import TUNED
from rejeu.message import ROW_ID
from rejeu.timeline import format_instant, from_us, to_us

BEFOREHAND: Final = "beforehand"
MEANWHILE: Final = "meanwhile"
SHARE: Final = 25
ROWS_A_REQUEST: Final = 7
"""About as many rows come of an oracle request, so fewer requests are enough."""
BEAMS_SHARE: Final = 50
"""The share of our messages that Beam's own job gets: with more it would take most of the run."""
USERS: Final = 500
PROBES: Final = 20
"""Messages that show that the job runs, before the measurement."""
POLL_SECONDS: Final = 0.2
DONE_SECONDS: Final = 300.0
LEGEND: Final = (
    "Medians of jobs that run already, on BigQuery's emulator, until a query counts every row; for clicks, whose rows "
    f"are panes of windows, until their counts add up to every event. {BEFOREHAND}: all messages wait in the "
    f"subscription before the suspended job goes on; {MEANWHILE}: they are published as fast as Google's client can. "
    f"{BEAMS} is ReadFromPubSub and WriteToBigQuery on the same runner; the ratio is to it in the same round; µs are "
    "the job's CPU time a message."
)

COUNT_ROWS: Final = "SELECT COUNT(*) FROM {table}"
COUNT_CLICKS: Final = (
    "SELECT SUM(events) FROM (SELECT MAX(event_count) AS events FROM {table} GROUP BY user_pseudo_id, window_start)"
)


Sent = tuple[str, bytes]
"""A row id and a body."""


@dataclass(frozen=True)
class Run:
    """One job over a number of messages; `rows` is how many a query counts after so many seconds.

    The job's CPU is that of its process, without the queries and the servers.
    """

    pipeline: str
    filled: str
    messages: int
    rows: int
    seconds: float
    job_cpu_seconds: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


def streaming(options: Options) -> Result:
    """Run each pipeline twice a round: with a subscription filled before, and with one that is being filled."""
    count = max(1, options.messages // SHARE)
    subjects = [(pipeline, filled) for pipeline in OURS for filled in (BEFOREHAND, MEANWHILE)]
    schedule = [subject for _ in range(options.rounds) for subject in ((BEAMS, BEFOREHAND), *subjects)]
    with streaming_servers() as client:
        runs = [_run(client, pipeline, filled, count) for pipeline, filled in steps("Streaming", schedule)]
    legend = f"Streaming {count:,} rows or so, {options.rounds} rounds. {LEGEND}"
    return Result(table(runs), legend, [asdict(each) for each in runs])


def table(runs: Sequence[Run]) -> Table:
    """The runs by pipeline, for a person to read."""
    made = figures_table(2, "pipeline", "filled", "rows/s", "slowest", "ratio", "messages/s", "CPU µs")
    base = [each.rate for each in runs if each.pipeline == BEAMS]
    for pipeline, filled in dict.fromkeys((each.pipeline, each.filled) for each in runs):
        own = [each for each in runs if (each.pipeline, each.filled) == (pipeline, filled)]
        made.add_row(
            pipeline,
            filled,
            f"{median(each.rate for each in own):,.0f}",
            f"{min(each.rate for each in own):,.0f}",
            f"{median(each.rate / other for each, other in zip(own, base, strict=True)):.1f}",
            f"{median(each.messages / each.seconds for each in own):,.0f}",
            f"{median(each.job_cpu_seconds / each.messages * 1e6 for each in own):,.0f}",
        )
    return made


def publish(messages: Iterable[Sent]) -> None:
    """Publish the messages, and return when Pub/Sub has them."""
    with PublisherClient(TUNED) as publisher:
        futures = [publisher.publish(TOPIC, body, **{ROW_ID: row_id}) for row_id, body in messages]
        for future in futures:
            future.result(timeout=DONE_SECONDS)


def plain(count: int) -> list[Sent]:
    """Rows of `benchmarks.streaming_job.PLAIN`, a millisecond apart."""
    return [_sent(n, {"happened": format_instant(from_us(to_us(START) + n * 1_000)), "n": n}) for n in range(count)]


def clicks(count: int) -> list[Sent]:
    """Events of some users, ten milliseconds apart."""
    first = to_us(START)
    return [
        _sent(n, {"user_pseudo_id": f"user-{n * 7 % USERS}", "event_timestamp": first + n * 10_000})
        for n in range(count)
    ]


def requests(count: int) -> list[Sent]:
    """Oracle requests that make about so many rows."""
    return [(f"bench/{n}/{n}/0", message(n).body) for n in range(PROBES + count // ROWS_A_REQUEST)]


def _sent(number: int, values: dict[str, object]) -> Sent:
    return f"bench/{number}/{number}/0", msgspec.json.encode(values)


def _rows_of(pipeline: str, messages: Sequence[Sent]) -> int:
    if pipeline != "rates":
        return len(messages)
    decode = make_decoder()
    return sum(len(decode(body)) for _, body in messages)


def _run(client: bigquery.Client, pipeline: str, filled: str, count: int) -> Run:
    messages = BODIES[pipeline](PROBES + (count // BEAMS_SHARE if pipeline == BEAMS else count))
    probes, rest = messages[:PROBES], messages[PROBES:]
    first, all_rows = _rows_of(pipeline, probes), _rows_of(pipeline, messages)
    with feed_of(client, pipeline) as feed, feed.job() as job:
        publish(probes)
        _await_rows(feed, first)
        watch = Stopwatch(job)
        if filled == BEFOREHAND:
            job.suspend()
            publish(rest)
            with watch:
                job.resume()
                _await_rows(feed, all_rows)
        else:
            with watch:
                publish(rest)
                _await_rows(feed, all_rows)
    return Run(pipeline, filled, len(rest), all_rows - first, watch.seconds, watch.server_cpu_seconds)


def _await_rows(feed: JobFeed, rows: int) -> None:
    query = COUNT_CLICKS if feed.pipeline == "clicks" else COUNT_ROWS
    what = f"{feed.pipeline}: not all of {rows:,} rows were to be seen"
    wait_until(lambda: feed.ask(query)[0][0] == rows, what, DONE_SECONDS, POLL_SECONDS)


OURS: Final = ("passthrough", "rates", "clicks")
BODIES: Final[dict[str, Callable[[int], list[Sent]]]] = {
    BEAMS: plain,
    "passthrough": plain,
    "rates": requests,
    "clicks": clicks,
}
"""What each job is given, by its pipeline."""
