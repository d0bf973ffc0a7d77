"""The replay as a program: real processes that are stopped, killed, paused and cut off, and what arrives nevertheless.

The tests named after "the tool before" each hold a fault of blockchain-etl/bigquery-to-pubsub away.
"""

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rejeu.state.model import Status
from rejeu.state.sqlite import SqliteStore
from rejeu.state.stream import mark_unwanted
from rejeu.timeline import Position, format_instant, from_us, parse_instant, to_us
from tests.emulated.gate import Gate
from tests.emulated.pubsub_feed import PROJECT, Feed, PubSubServer
from tests.emulated.replay_program import (
    SECONDS,
    STREAM,
    Program,
    by_time,
    lease_runs_out,
    row_ids,
    state_in,
    take,
    take_all,
)

pytestmark = [
    pytest.mark.emulated,
    pytest.mark.filterwarnings("ignore:The return_immediately flag"),  # how else to see that nothing is left
    pytest.mark.parametrize("pubsub", ["built-in"], indirect=True, scope="module"),
]

T0 = parse_instant("2021-05-01T00:00:00Z")
LEASE_SECONDS = 0.5


Start = Callable[..., Program]


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "state.db")


@pytest.fixture
def start(feed: Feed, tmp_path: Path, store: SqliteStore) -> Iterator[Start]:
    """Starts a replay of `rows.ndjson` with a state store."""
    started: list[Program] = []

    def run(*flags: str, **environment: str) -> Program:
        given = [f"--file={tmp_path / 'rows.ndjson'}", "--event-time=at", "--key=n", f"--topic={feed.topic}"]
        given += [f"--stream={STREAM}", f"--state=sqlite:{tmp_path / 'state.db'}"]
        given += [f"--lease-seconds={LEASE_SECONDS}", "--checkpoint-seconds=0.05"]
        # A process that is killed leaves its temporary files to whoever empties the folder.
        started.append(Program(*given, *flags, TMPDIR=str(tmp_path), **environment))
        return started[-1]

    yield run
    for each in started:
        each.end_for_sure()


@pytest.fixture
def gate(pubsub: PubSubServer) -> Iterator[Gate]:
    with Gate(pubsub.address) as opened:
        yield opened


def write_rows(folder: Path, count: int, step: timedelta) -> list[str]:
    """`count` rows, a step apart; gives their row ids."""
    times = [T0 + step * n for n in range(count)]
    lines = [json.dumps({"at": format_instant(at), "n": n}) for n, at in enumerate(times)]
    (folder / "rows.ndjson").write_text("\n".join(lines))
    return [f"{STREAM}/{to_us(at)}/{n}/0" for n, at in enumerate(times)]


# The one line of the README


def test_one_line_publishes_a_file_with_no_spec_and_no_state(feed: Feed, tmp_path: Path) -> None:
    rows = [
        {"timestamp": f"2021-05-01T00:00:0{n % 5}Z", "request": str(n // 2), "symbol": "AB"[n % 2], "rate": n / 4}
        for n in (7, 2, 9, 0, 5, 3, 8, 1, 6, 4)
    ]
    (tmp_path / "rows.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, said = Program(
        *("--file", str(tmp_path / "rows.ndjson"), "--event-time", "timestamp", "--key", "request,symbol"),
        *("--topic", feed.topic, "--speed", "max", "--report", str(tmp_path / "report.json")),
    ).end()
    assert code == 0, said
    messages = by_time(take_all(feed))
    ordered = sorted(rows, key=lambda row: (row["timestamp"], f"{row['request']}~{row['symbol']}"))
    assert [json.loads(message.data) for message in messages] == ordered
    at = [parse_instant(str(row["timestamp"])) for row in ordered]
    assert [dict(message.attributes) for message in messages] == [
        {
            "row_id": f"adhoc/{to_us(time)}/{row['request']}~{row['symbol']}/0",
            "event_time": format_instant(time),
            "stream": "adhoc",
            "epoch": "1",
        }
        for time, row in zip(at, ordered, strict=True)
    ]
    report = json.loads((tmp_path / "report.json").read_text())
    assert 0 < report.pop("seconds") < SECONDS
    assert report.pop("messages_per_second") > 0
    assert report == {
        "stream": "adhoc",
        "status": "finished",
        "published": 10,
        "lateness_ms": None,
        "cursor": {"event_time": "2021-05-01T00:00:04.000000Z", "rows_at_that_time": 2},
        "epoch": 1,
        "error": None,
    }
    assert "adhoc: finished: 10 rows in " in said


# Pace


def test_rows_come_sixty_times_as_fast_as_they_happened_and_none_early(
    feed: Feed, start: Start, store: SqliteStore, tmp_path: Path
) -> None:
    write_rows(tmp_path, 61, timedelta(seconds=2))
    code, said = start("--speed=60", f"--report={tmp_path / 'report.json'}").end()
    assert code == 0, said
    timeline = state_in(store).timeline
    assert timeline is not None
    messages = take_all(feed)
    early = [
        due - published
        for message in messages
        if (published := message.publish_time)
        < (due := from_us(timeline.due_us(to_us(parse_instant(message.attributes["event_time"])))))
    ]
    # The server's clock is this machine's, cut to the millisecond or finer.
    assert max(early, default=timedelta()) < timedelta(milliseconds=2)
    assert len(messages) == 61
    # Rows that a busy machine sends late go at once, in requests that may pass each other: each came, once.
    assert len({message.attributes["row_id"] for message in messages}) == 61
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["seconds"] >= 2.0
    assert 0 < report["lateness_ms"]["p50"] < 500
    assert report["lateness_ms"]["p50"] <= report["lateness_ms"]["p99"] <= report["lateness_ms"]["max"]


# The broker goes


def test_a_broker_that_is_gone_for_two_seconds_gets_every_row(
    feed: Feed, start: Start, gate: Gate, tmp_path: Path
) -> None:
    """The tool before lost half of them, with exit code 0."""
    ids = write_rows(tmp_path, 550, timedelta(milliseconds=10))
    program = start("--speed=1", PUBSUB_EMULATOR_HOST=gate.address)
    messages = take(feed, 1)
    gate.shut()
    time.sleep(2)  # what is tested
    gate.open()
    code, said = program.end()
    assert code == 0, said
    messages += take_all(feed)
    assert set(row_ids(messages)) == set(ids)
    assert "UNAVAILABLE; trying again for 60 s" in said
    assert "the topic answers again after" in said
    assert f"{STREAM}: finished: 550 rows in" in said
    # Five seconds without a terminal: somebody waits, and is told how far it is.
    assert "rows published, cursor 2021-05-01T00:00:0" in said


def test_a_broker_that_stays_away_ends_it_and_going_on_leaves_no_hole(
    feed: Feed, start: Start, gate: Gate, store: SqliteStore, tmp_path: Path
) -> None:
    ids = write_rows(tmp_path, 2_000, timedelta(milliseconds=2))
    program = start("--speed=1", "--patience-seconds=0.5", PUBSUB_EMULATOR_HOST=gate.address)
    messages = take(feed, 100)
    gate.shut()
    code, said = program.end()
    assert code == 4
    assert f"rejeu: {feed.topic} takes no messages: UNAVAILABLE: " in said
    assert "; it was away for 0.5 s" in said
    assert "start again with --from cursor once it is back" in said
    state = state_in(store)
    assert (state.status, state.holder) == (Status.FAILED, None)
    assert state.cursor is not None
    messages += take_all(feed)
    assert state.published <= len(set(row_ids(messages))) < len(ids)
    gate.open()
    code, said = start("--speed=max", "--from=cursor", PUBSUB_EMULATOR_HOST=gate.address).end()
    assert code == 0, said
    rest = take_all(feed)
    assert row_ids(rest) == ids[state.published :], "it goes on at the cursor"
    assert set(row_ids(messages + rest)) == set(ids)


def test_a_missing_topic_is_no_success(feed: Feed, start: Start, tmp_path: Path) -> None:
    """The tool before delivered nothing, with exit code 0."""
    write_rows(tmp_path, 10, timedelta(seconds=1))
    code, said = start("--speed=max", f"--topic={PROJECT}/topics/none").end()
    assert code == 4
    assert f"rejeu: {PROJECT}/topics/none takes no messages: NOT_FOUND: " in said
    assert said.strip().endswith("; create it, or let the stream's live DAG do so")
    assert take_all(feed) == []


# The replay goes


def test_sigterm_saves_the_cursor_and_going_on_publishes_exactly_the_rest(
    feed: Feed, start: Start, store: SqliteStore, tmp_path: Path
) -> None:
    """The tool before could not go on."""
    ids = write_rows(tmp_path, 3_000, timedelta(milliseconds=2))
    program = start("--speed=1")
    messages = take(feed, 50)
    program.signal(signal.SIGTERM)
    code, said = program.end()
    assert code == 0, said
    messages += take_all(feed)
    state = state_in(store)
    assert f"{STREAM}: stopped: {len(messages):,} rows" in said
    assert (state.status, state.holder, state.published) == (Status.STOPPED, None, len(messages))
    assert state.cursor == Position(to_us(parse_instant(by_time(messages)[-1].attributes["event_time"])), 1)
    assert 50 <= len(messages) < len(ids)
    assert list(tmp_path.glob("rejeu-*")) == [], "no temporary file is left"
    code, said = start("--speed=max", "--from=cursor").end()
    assert code == 0, said
    assert row_ids(messages + take_all(feed)) == ids


def test_after_sigkill_anywhere_every_row_arrives_and_the_doubles_are_few_and_known_by_their_ids(
    feed: Feed, start: Start, store: SqliteStore, tmp_path: Path
) -> None:
    ids = write_rows(tmp_path, 10_000, timedelta(microseconds=400))
    place = random.randrange(1, 8_000)
    first = start("--speed=1")
    before = take(feed, place)
    first.signal(signal.SIGKILL)
    assert first.end()[0] == -signal.SIGKILL
    before += take_all(feed)
    saved = state_in(store)
    assert saved.holder is not None, "killed, it could not give the lease up"
    killed_at = datetime.now(UTC)
    lease_runs_out(store)
    code, said = start("--speed=1", "--from=cursor").end()
    assert code == 0, said
    after = take_all(feed)
    assert set(row_ids(before + after)) == set(ids), f"killed after {place} rows"
    assert row_ids(after) == ids[saved.published :], "it goes on at the cursor"
    doubles = len(before) + len(after) - len(ids)
    assert 0 <= doubles == len(before) - saved.published < 2_500, f"killed after {place} rows"
    assert {message.attributes["epoch"] for message in before} == {"1"}
    assert {message.attributes["epoch"] for message in after} == {"2"}
    state = state_in(store)
    assert state.owed > 0, "rows fell due while nobody published"
    assert state.resumed_at is not None
    assert state.resumed_at > killed_at


# One at a time


def test_a_second_replay_is_refused_while_the_first_lives(
    feed: Feed, start: Start, store: SqliteStore, tmp_path: Path
) -> None:
    write_rows(tmp_path, 1_000, timedelta(seconds=1))
    first = start("--speed=1")
    take(feed, 1)
    for flags in ((), ("--from=cursor",)):
        code, said = start("--speed=max", *flags).end()
        assert code == 5
        assert f"rejeu: {STREAM}: {state_in(store).holder} publishes under epoch 1 until 20" in said
        assert said.strip().endswith("stop it first, or wait until it is gone")
    first.signal(signal.SIGTERM)
    assert first.end()[0] == 0
    assert {message.attributes["epoch"] for message in take_all(feed)} <= {"1"}


def test_a_replay_that_was_paused_until_another_took_over_stops_before_its_next_message(
    feed: Feed, start: Start, store: SqliteStore, tmp_path: Path
) -> None:
    ids = write_rows(tmp_path, 200, timedelta(milliseconds=250))
    first = start("--speed=1")
    messages = take(feed, 3)
    first.pause(tmp_path / "state.db")
    lease_runs_out(store)
    code, said = start("--speed=max", "--from=cursor").end()
    assert code == 0, said
    continued_at = datetime.now(UTC)
    first.signal(signal.SIGCONT)
    code, said = first.end()
    assert code == 6
    assert f"rejeu: {STREAM}: epoch 2 (fenced off) took over from epoch 1: this replay stops before its next" in said
    messages += take_all(feed)
    late = [each for each in messages if each.attributes["epoch"] == "1" and each.publish_time > continued_at]
    assert late == []
    assert set(row_ids(messages)) == set(ids)
    assert (state_in(store).status, state_in(store).epoch) == (Status.FINISHED, 2)


def test_a_stream_that_nobody_wants_ends_by_itself_and_is_not_gone_on_with(
    feed: Feed, start: Start, store: SqliteStore, tmp_path: Path
) -> None:
    write_rows(tmp_path, 1_000, timedelta(milliseconds=250))
    program = start("--speed=1")
    take(feed, 1)
    mark_unwanted(store, STREAM)
    code, said = program.end()
    assert code == 0, said
    assert f"{STREAM}: the stream is no longer wanted, so its replay ends" in said
    take_all(feed)
    code, said = start("--speed=max", "--from=cursor").end()
    assert code == 0, said
    assert f"{STREAM}: stopped: 0 rows" in said
    assert take_all(feed) == []
    assert (state_in(store).status, state_in(store).wanted) == (Status.STOPPED, False)


# What the tool before got wrong besides


def test_every_row_that_is_counted_has_arrived(feed: Feed, start: Start, tmp_path: Path) -> None:
    """The tool before dropped its futures: of 10 rows, 0 arrived, with exit code 0."""
    ids = write_rows(tmp_path, 10, timedelta(seconds=1))
    code, said = start("--speed=max").end()
    assert code == 0, said
    assert row_ids(take_all(feed)) == ids, "and each has an id"


def test_floats_are_numbers_and_times_without_a_zone_are_utc_wherever_it_runs(
    feed: Feed, start: Start, tmp_path: Path
) -> None:
    """The tool before broke on a float, and compared UTC data with the machine's local time."""
    times = pa.array([to_us(T0), to_us(T0) + 1_500_000], pa.timestamp("us"))
    table: dict[str, Any] = {"at": times, "rate": pa.array([0.25, float("nan")]), "n": pa.array([1, 2])}
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    code, said = start(
        *(f"--file={tmp_path / 'rows.parquet'}", "--speed=1", "--from=2021-05-01T00:00:00Z"),
        *("--until=2021-05-02T00:00:00Z",),
        TZ="America/New_York",
    ).end()
    assert code == 0, said
    messages = take_all(feed)
    assert [message.attributes["event_time"] for message in messages] == [
        "2021-05-01T00:00:00.000000Z",
        "2021-05-01T00:00:01.500000Z",
    ]
    assert [json.loads(message.data)["rate"] for message in messages] == [0.25, "NaN"]
    paced = messages[1].publish_time - messages[0].publish_time
    assert paced > timedelta(seconds=0.5), "at speed 1 they are a second and a half apart"
