"""The benchmarks' pieces on a handful of messages: all subjects do the same work; how fast, nobody asserts."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from benchmarks.__main__ import chosen, table
from benchmarks.feed import Feed
from benchmarks.measure import Sample, Stopwatch, summarise
from benchmarks.null_server import publish
from benchmarks.publishing import CLIENT_SHARE, SUBJECTS
from benchmarks.servers import EMULATOR, commands, running
from rejeu.replay.publisher import PublishRequest, PublishResponse
from tests.replay.fake_broker import FakeBroker

COUNT = 10 * CLIENT_SHARE
STARTED_FROM_HERE = ("null", "built-in")


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed.make(tmp_path, COUNT)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    with FakeBroker() as started:
        monkeypatch.setenv(EMULATOR, started.address)
        yield started


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_publishes_the_same_bytes_and_attributes(subject: str, feed: Feed, broker: FakeBroker) -> None:
    acknowledged = SUBJECTS[subject](feed, Stopwatch(psutil.Process()))

    share = COUNT // CLIENT_SHARE if subject.startswith("client") else COUNT
    got = sorted((message.data, sorted(message.attributes.items())) for message in broker.got)
    assert got == sorted((each.data, sorted(each.attributes.items())) for each in feed.messages[:share])
    assert acknowledged == share


def test_a_row_has_about_200_bytes(feed: Feed) -> None:
    assert all(180 <= len(message.data) <= 220 for message in feed.messages)


def test_the_null_server_names_every_message_without_looking_into_it(feed: Feed) -> None:
    answer = PublishResponse.FromString(publish(feed.requests[0]))

    assert len(answer.message_ids) == len(PublishRequest.FromString(feed.requests[0]).messages) == COUNT


@pytest.mark.emulated
@pytest.mark.parametrize("name", STARTED_FROM_HERE)
def test_a_server_takes_the_feed_and_is_gone_afterwards(name: str, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATOR, "")  # so that what selecting a server changes is undone

    with running(name) as server:
        watch = Stopwatch(server.process)
        assert SUBJECTS["ceiling"](feed, watch) == COUNT

    assert watch.seconds > 0
    assert not server.process.is_running()


def test_a_ratio_compares_runs_of_the_same_round() -> None:
    seconds = {"ours": (1.0, 4.0, 3.0), "theirs": (2.0, 16.0, 12.0)}
    samples = [Sample("null", name, 12, runs[at], 0.0, 0.0) for at in range(3) for name, runs in seconds.items()]

    ours, theirs = summarise(samples, baseline="theirs")

    assert (ours.rate, ours.slowest, ours.fastest, ours.ratio) == (4.0, 3.0, 12.0, 4.0)
    assert theirs.ratio == 1.0


def test_without_the_baseline_there_is_no_ratio() -> None:
    [summary] = summarise([Sample("null", "ours", 10, 1.0, 0.5, 0.25)], baseline="theirs")

    assert summary.ratio is None
    assert (summary.cpu_us, summary.server_cpu_us) == (50_000, 25_000)


def test_only_narrows_what_it_names_and_nothing_else() -> None:
    assert chosen(SUBJECTS, ["sender", "null"]) == ["sender"]
    assert chosen(commands(), ["sender"]) == list(commands())


def test_the_table_fits_an_ordinary_terminal() -> None:
    samples = [Sample("built-in", "client-tuned", 100_000, 0.1, 9.0, 9.0)]
    console = Console(width=80, file=StringIO())

    with console.capture() as shown:
        console.print(table(summarise(samples, "client-tuned"), "a caption"))

    assert "1,000,000" in shown.get()
    assert "…" not in shown.get()
