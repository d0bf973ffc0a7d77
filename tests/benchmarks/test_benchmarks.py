"""The benchmarks' pieces on a handful of messages: all subjects do the same work; how fast, nobody asserts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from rich.console import Console

from benchmarks.__main__ import RESULT, SECTIONS, sections
from benchmarks.feed import CLIENT_SHARE, Feed
from benchmarks.measure import Sample, Stopwatch, spread, summarise
from benchmarks.null_server import publish
from benchmarks.publishing import chosen, table
from benchmarks.record import PublishRequest
from benchmarks.servers import EMULATOR, NULL, NULL_TLS, VARIABLES, commands, running
from benchmarks.subjects import SUBJECTS
from rejeu.message import ROW_ID
from rejeu.replay.send.publisher import PublishResponse
from tests.fakes.broker import FakeBroker
from tests.paths import ROOT

COUNT = 10 * CLIENT_SHARE
STARTED_FROM_HERE = (NULL, "built-in")


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed.make(tmp_path, COUNT)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    with FakeBroker() as started:
        monkeypatch.setenv(EMULATOR, started.address)
        yield started


def content(messages: Iterable[Any]) -> list[tuple[bytes, dict[str, str]]]:
    """In the order of their ids."""
    found = [(each.data, dict(each.attributes)) for each in messages]
    return sorted(found, key=lambda each: each[1][ROW_ID])


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_publishes_the_same_bytes_and_attributes(subject: str, feed: Feed, broker: FakeBroker) -> None:
    acknowledged = SUBJECTS[subject](feed, Stopwatch(psutil.Process()))

    messages = [message for request in feed.requests for message in PublishRequest.FromString(request).messages]
    share = messages[: COUNT // CLIENT_SHARE] if subject.startswith("client") else messages
    assert content(broker.got) == content(share)
    assert acknowledged == len(share)


def test_a_row_has_about_200_bytes(feed: Feed) -> None:
    assert all(180 <= len(message.data) <= 220 for message in feed.messages)


def test_the_null_server_names_every_message_without_looking_into_it(feed: Feed) -> None:
    answers = [PublishResponse.FromString(publish(request)) for request in feed.requests]

    asked = [len(PublishRequest.FromString(request).messages) for request in feed.requests]
    assert [len(answer.message_ids) for answer in answers] == asked
    assert sum(asked) == COUNT


@pytest.mark.emulated
@pytest.mark.parametrize("name", STARTED_FROM_HERE)
def test_a_server_takes_the_feed_and_is_gone_afterwards(name: str, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")  # so that what selecting a server changes is undone

    with running(name) as server:
        for subject in ("sender", "ceiling"):
            watch = Stopwatch(server.process)
            assert SUBJECTS[subject](feed, watch) == COUNT

    assert watch.seconds > 0
    assert not server.process.is_running()


@pytest.mark.emulated
def test_over_tls_and_with_credentials_the_same_code_publishes(tmp_path: Path) -> None:
    """In a process of its own: gRPC reads its roots, and google-auth its metadata server, once."""
    asked = ["--only", NULL_TLS, "replay", "sender", "--rounds=1", f"--messages={COUNT}"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *asked],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    samples = json.loads((tmp_path / RESULT).read_text(encoding="utf-8"))["publishing"]["figures"]["samples"]
    assert {(each["subject"], each["messages"]) for each in samples} == {("replay", COUNT), ("sender", COUNT)}


def test_a_ratio_compares_runs_of_the_same_round() -> None:
    seconds = {"ours": (1.0, 4.0, 3.0), "theirs": (2.0, 16.0, 12.0)}
    samples = [Sample("null", name, 12, runs[at], 0.0, 0.0) for at in range(3) for name, runs in seconds.items()]

    ours, theirs = summarise(samples, ["theirs"])

    assert (ours.rate, ours.slowest, ours.fastest, ours.ratios) == (4.0, 3.0, 12.0, {"theirs": 4.0})
    assert theirs.ratios == {"theirs": 1.0}


def test_there_is_no_ratio_to_what_was_not_measured() -> None:
    [summary] = summarise([Sample("null", "ours", 10, 1.0, 0.5, 0.25)], ["theirs"])

    assert summary.ratios == {}
    assert (summary.cpu_us, summary.server_cpu_us) == (50_000, 25_000)


def test_a_spread_has_the_middle_the_tail_and_the_worst() -> None:
    assert spread(np.arange(101) * 1_000, unit=1_000, tail=0.95) == {"p50": 50, "p95": 95, "max": 100}


def test_only_narrows_what_it_names_and_nothing_else() -> None:
    assert chosen(SUBJECTS, ["sender", "null"]) == ["sender"]
    assert chosen(commands(), ["sender"]) == list(commands())
    assert sections(["memory", "sender"]) == ["memory"]
    assert sections(["sender", "null"]) == ["publishing"]
    assert sections([]) == list(SECTIONS)


def test_the_table_fits_an_ordinary_terminal() -> None:
    samples = [Sample("null-tls", name, 100_000, 0.1, 9.0, 9.0) for name in ("client-tuned", "ceiling")]
    console = Console(width=80, file=StringIO())

    with console.capture() as shown:
        console.print(table(summarise(samples, ["client-tuned", "ceiling"])))

    assert "1,000,000" in shown.get()
    assert "…" not in shown.get()
