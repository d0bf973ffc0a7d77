"""Command lines that are mutated, by thousands: read, or refused in our words, within a second and few megabytes."""

from __future__ import annotations

import argparse
import io
import random
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, Final

import pytest

from rejeu.cli import parser
from rejeu.errors import RejeuError
from rejeu.jobs.flags import Request
from rejeu.jobs.request import BatchJobRequest, ReconcileRequest, ReplayRequest, StreamJobRequest
from rejeu.new.text import Wish
from rejeu.spec.types import parse_speed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_garbage")]

ROUNDS: Final = 1_000
MOST_SECONDS: Final = 1.0
MOST_KILOBYTES: Final = 200_000
LONGEST_MESSAGE: Final = 5_000
"""A wrong command line is shown with the usage before it."""

COMMANDS: Final = [
    "validate dags/streams/a.yaml --dags dags",
    "new bike_stations --table web.clicks --pipeline passthrough --topic clicks --dry-run",
    "new clicks --file gs://b/*.ndjson",
    "new clicks --pipeline-template",
    "schema --write a.json",
    "update a.yaml --renamed a=b",
    "pace clicks 60 --state sqlite:a",
    "pace clicks pause",
    "incidents clicks --limit 5 --json",
    "seed clicks --days 3",
    "logs -f",
    "demo crypto_rates --keep --report a.json",
    "up --dags dags",
    "--version",
]
TOPIC: Final = "--topic=projects/p/topics/t"
PIPELINE: Final = "--stream=a_stream --pipeline=rates --event-time=timestamp"
REQUESTS: Final[list[tuple[type[Request], str]]] = [
    (ReplayRequest, f"{TOPIC} --table=web.clicks --event-time=at --key=a,b.c --ordering-key=a --shard=0/4 --speed=60"),
    (
        ReplayRequest,
        f"{TOPIC} --generator=clickstream:limit=5 --event-time=at --from=2021-05-01T00:00Z --until=2021-05-02T00:00Z",
    ),
    (ReplayRequest, f"{TOPIC} --file=a.parquet --event-time=at --time-unit=ms --standby --twin --state=sqlite:a"),
    (
        ReplayRequest,
        f"{TOPIC} --api=https://a.b/c?key={{env:KEY}} --headers={{}} --raw=/raw/{{partition}} --event-time=observed_at "
        "--every-seconds=60 --lease-seconds=5 --checkpoint-seconds=1 --patience-seconds=60 --from=cursor --state=gs://b/s",
    ),
    (StreamJobRequest, f"{PIPELINE} --subscription=s --table=p.d.t --dead-letters=p.d.x --workers={{}}"),
    (BatchJobRequest, f"{PIPELINE} --files=a --output=b --partition=2021-05-01 --window-seconds=15 --early-seconds=1"),
    (
        ReconcileRequest,
        f"{TOPIC} --table=d.t --event-time=at --until=2021-05-01T00:00:00Z --pipeline=rates --streaming-table=p.d.t "
        "--streaming-time=at --dead-letters=p.d.x --settle-seconds=30",
    ),
]
VALUES: Final = [
    "", "0", "-1", "1", "nan", "inf", "-inf", "1e308", "1e-300", "9" * 5_000, "max", "pause", "cursor", "true", "é",
    "\0", "\udcff", "x" * 5_000, "a=b", "=", "=" * 50, ",", "," * 5_000, "a," * 2_000, "{}", "{", "[" * 20_000,
    '{"a":' * 5_000, '{"X-Api-Key": "{env:A}"}', '{"max": 1e400}', "{bucket!r}", "{env:A", "gs://", "gs://b/*", "5/4",
    "0/0", "9" * 400 + "/" + "9" * 401, "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "'",
    "http://a:b@c", "https://a/?key=x", "http://[", "sqlite:", "projects//topics/", "clickstream:" + "a=1," * 500, "--",
    "%s", "%(prog)s", "@file", "-", "2021-05-01",
]  # fmt: skip


def mutated(words: Sequence[str], rng: random.Random) -> list[str]:
    """A good command line with a few words changed."""
    mutant = list(words)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(mutant) + 1)
        kind, value = rng.random(), rng.choice(VALUES)
        if at == len(mutant) or kind < 0.15:
            mutant.insert(at, value)
        elif kind < 0.6:
            flag, equals, _ = mutant[at].partition("=")
            mutant[at] = f"{flag}={value}" if equals else value
        elif kind < 0.75:
            mutant.pop(at)
        elif kind < 0.85:
            mutant.insert(rng.randrange(len(mutant)), mutant[at])
        elif kind < 0.95:
            cut = rng.randrange(len(mutant[at]) + 1)
            mutant[at] = mutant[at][:cut] + rng.choice(["", "-", "=", "x", "é"]) + mutant[at][cut + 1 :]
        else:
            mutant[at] = mutant[at] * rng.choice([2, 200])
    return mutant


def judged(argv: list[str], read: Callable[[list[str]], object]) -> str | None:
    """What is said of a command line that is refused."""
    said = io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            read(argv)
    except RejeuError as error:
        return str(error)
    except SystemExit as ended:
        return said.getvalue() if ended.code else None
    return None


def fuzzed(seed: int, of: Callable[[random.Random], tuple[Sequence[str], Callable[[list[str]], object]]]) -> None:
    rng = random.Random(seed)
    said: list[str] = []
    slowest, before = 0.0, _most_kilobytes()
    for _ in range(ROUNDS):
        good, read = of(rng)
        argv = mutated(good, rng)
        begun = time.thread_time()
        refused = judged(argv, read)
        slowest = max(slowest, time.thread_time() - begun)
        if refused is not None:
            said.append(refused)
    assert ROUNDS / 4 < len(said) < ROUNDS
    assert max(map(len, said)) < LONGEST_MESSAGE
    assert slowest < MOST_SECONDS
    assert _most_kilobytes() - before < MOST_KILOBYTES


def test_a_mutated_command_is_read_or_refused_in_few_words() -> None:
    program = parser()

    def read(argv: list[str]) -> None:
        if argv[:1] == ["replay"]:
            return
        arguments: Any = program.parse_args(argv)
        if "wish" in arguments and arguments.wish not in ("pause", "resume"):
            parse_speed(arguments.wish)
        if "pipeline_template" in arguments:
            Wish(arguments.name, arguments.pipeline, arguments.topic, arguments.table, arguments.file).check()

    fuzzed(1, lambda rng: (rng.choice(COMMANDS).split(), read))


@pytest.mark.parametrize("stored", [False, True])
def test_the_mutated_arguments_of_a_job_are_a_request_or_refused_in_few_words(stored: bool) -> None:
    def of(rng: random.Random) -> tuple[list[str], Callable[[list[str]], object]]:
        kind, good = rng.choice(REQUESTS)

        def read(argv: list[str]) -> None:
            request = kind.from_stored(argv) if stored else kind.from_argv(argv)
            again = kind.from_stored(request.to_argv())
            assert again == request
            for name in ("job_name", "state_name", "reading", "topic_path"):
                getattr(request, name, None)

        return good.split(), read

    fuzzed(2 + stored, of)


def test_every_good_line_is_taken() -> None:
    program: argparse.ArgumentParser = parser()
    for line in COMMANDS[:-1]:
        program.parse_args(line.split())
    for kind, line in REQUESTS:
        assert kind.from_argv(line.split())


def _most_kilobytes() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
