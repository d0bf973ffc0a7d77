"""`python -m rejeu.replay` as its caller sees it: arguments in, exit code and one line of reason out."""

import gzip
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rejeu.jobs.request import ReplayRequest, Shard
from rejeu.message import MAX_MESSAGE_BYTES
from rejeu.replay import __main__ as program
from rejeu.replay import engine
from rejeu.replay.__main__ import WithoutPandas, main, sharded
from rejeu.state.sqlite import SqliteStore
from tests.fakes.broker import UNAVAILABLE, FakeBroker, acknowledge, refuse, too_few_ids
from tests.fakes.replay_clock import SECOND, StandingClock
from tests.replay.rows import TOPIC

BEFORE = 7
HOUR = 3600 * SECOND
ROW = '{"at": "2021-05-01T00:00:00Z", "request": "7", "symbol": "BTC"}\n'

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(broker: FakeBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the program on a file of one row: its exit code, and the last line that it wrote."""
    (tmp_path / "rows.ndjson").write_text(ROW)

    def call(*flags: str, file: str = "rows.ndjson") -> tuple[int, str]:
        given = [f"--file={tmp_path / file}", "--event-time=at", f"--topic={TOPIC}", "--speed=max"]
        code = main([*given, *flags])
        return code, capsys.readouterr().err.strip().rpartition("\n")[2].replace(f"{tmp_path}/", "")

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    handlers, interval = {number: signal.getsignal(number) for number in numbers}, sys.getswitchinterval()
    yield call
    sys.setswitchinterval(interval)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_rows_are_published_and_the_code_is_0(run: Run, broker: FakeBroker) -> None:
    assert run("--key=request")[0] == 0
    assert broker.bodies == [ROW.strip().encode()]


def test_pandas_is_kept_out_until_a_source_of_others_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "OF_OTHERS", others := set[str]())
    with pytest.raises(ModuleNotFoundError):
        WithoutPandas().find_spec("pandas", None)
    others.add("rejeu.extensions.orders")
    WithoutPandas().find_spec("pandas", None)


# Signals


def signals(*numbers: signal.Signals) -> Callable[..., object]:
    """An answer before which the process gets signals."""

    def answer(request: object, context: grpc.ServicerContext) -> object:
        for number in numbers:
            os.kill(os.getpid(), number)
        return acknowledge(request, context)

    return answer


@pytest.fixture
def two_rows(tmp_path: Path) -> list[str]:
    """A row, and one that is due an hour after it; flags by which no test sees that hour end by itself."""
    (tmp_path / "rows.ndjson").write_text(ROW + ROW.replace("T00", "T01"))
    return ["--speed=1", "--stream=two", f"--state=sqlite:{tmp_path / 'state.db'}", "--checkpoint-seconds=0.01"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_once_what_is_under_way_has_arrived(
    run: Run, broker: FakeBroker, two_rows: list[str], number: signal.Signals
) -> None:
    broker.on(ROW.strip().encode(), signals(number))
    assert run(*two_rows)[0] == 0
    assert broker.bodies == [ROW.strip().encode()]
    assert run(*two_rows, "--from=cursor", "--speed=max")[0] == 0
    assert len(broker.got) == 2


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StandingClock:
    """What the program takes for the wall clock."""
    clock = StandingClock()
    monkeypatch.setattr(engine, "Clock", lambda: clock)
    return clock


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the program has saved so far."""
    save, saved = SqliteStore.save, list[dict[str, Any]]()

    def keep(store: SqliteStore, name: str, document: dict[str, Any], expected: int | None) -> int:
        saved.append(document)
        return save(store, name, document, expected)

    monkeypatch.setattr(SqliteStore, "save", keep)
    return saved


def is_paused(checkpoints: list[dict[str, Any]]) -> bool:
    """Whether the sender has heard of a pause: it does so after the checkpoint that writes it down."""
    return len(checkpoints) > 1 and all(each["paused"] for each in checkpoints[-2:])


def test_a_signal_pauses_it_and_another_one_stops_it_there(
    run: Run, broker: FakeBroker, two_rows: list[str], clock: StandingClock, checkpoints: list[dict[str, Any]]
) -> None:
    broker.on(ROW.strip().encode(), signals(signal.SIGUSR1))
    paused = iter(range(20))

    def let_the_second_row_fall_due_then_stop() -> None:
        if is_paused(checkpoints):
            clock.us += HOUR
            if next(paused, None) is None:
                os.kill(os.getpid(), signal.SIGTERM)

    clock.meanwhile = let_the_second_row_fall_due_then_stop
    assert run(*two_rows)[0] == 0
    assert broker.bodies == [ROW.strip().encode()]
    assert (checkpoints[-1]["paused"], checkpoints[-1]["published"]) == (True, 1)


def test_a_signal_ends_the_pause(
    run: Run, broker: FakeBroker, two_rows: list[str], clock: StandingClock, checkpoints: list[dict[str, Any]]
) -> None:
    broker.on(ROW.strip().encode(), signals(signal.SIGUSR1))

    def end_the_pause_then_let_the_second_row_fall_due() -> None:
        if is_paused(checkpoints):
            os.kill(os.getpid(), signal.SIGUSR2)
        elif any(each["paused"] for each in checkpoints):
            clock.us += HOUR

    clock.meanwhile = end_the_pause_then_let_the_second_row_fall_due
    assert run(*two_rows)[0] == 0
    assert len(broker.got) == 2


# Shards


REQUEST = ReplayRequest.of(topic=TOPIC, file="f", event_time="at")


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, None),
        ({"CLOUD_RUN_TASK_INDEX": "0", "CLOUD_RUN_TASK_COUNT": "1"}, None),
        ({"CLOUD_RUN_TASK_INDEX": "2", "CLOUD_RUN_TASK_COUNT": "4"}, Shard(2, 4)),
    ],
    ids=["no cloud", "one task", "one of four"],
)
def test_a_task_of_several_is_a_shard(environment: dict[str, str], shard: Shard | None) -> None:
    assert sharded(REQUEST, environment).shard == shard


def test_a_shard_that_was_asked_for_is_that_shard_whichever_task_it_is() -> None:
    asked = REQUEST.model_copy(update={"shard": Shard(0, 2)})
    assert sharded(asked, {"CLOUD_RUN_TASK_INDEX": "2", "CLOUD_RUN_TASK_COUNT": "4"}) == asked


def test_the_tasks_of_a_job_publish_every_row_once(
    run: Run, broker: FakeBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ROW.replace("7", str(number)) for number in range(20)]
    (tmp_path / "rows.ndjson").write_text("".join(rows))
    monkeypatch.setenv("CLOUD_RUN_TASK_COUNT", "3")
    for index in range(3):
        before = len(broker.got)
        monkeypatch.setenv("CLOUD_RUN_TASK_INDEX", str(index))
        assert run("--key=request", "--stream=tasks")[0] == 0
        assert before < len(broker.got)
    assert broker.bodies == sorted(row.strip().encode() for row in rows)


# 2: arguments


def test_a_window_without_an_instant_is_refused(run: Run, broker: FakeBroker) -> None:
    assert run("--from=2021-05-02T00:00:00Z", "--until=2021-05-01T00:00:00+02:00") == (
        2,
        "rejeu: --from 2021-05-02T00:00:00.000000Z is not before --until 2021-04-30T22:00:00.000000Z: "
        "give a window that holds at least one instant",
    )
    assert broker.attempts == 0


def test_a_cursor_without_a_state_store_is_refused(run: Run) -> None:
    assert run("--from=cursor") == (
        2,
        "rejeu: --from cursor needs --state: without a state store there is no cursor to go on from",
    )


@pytest.mark.parametrize("speed", ["0", "-1", "fast"])
def test_a_speed_that_is_none_is_refused(run: Run, speed: str) -> None:
    assert run(f"--speed={speed}") == (
        2,
        f'rejeu: --speed: it is {speed}: it must be a number from 0.001 to 1,000,000, or "max" for no waiting',
    )


def test_a_flag_that_there_is_not_is_refused(run: Run) -> None:
    assert run("--sped=1") == (2, "rejeu: unrecognized arguments: --sped=1: see `rejeu replay --help` for every flag")


# 3: the source


def test_a_missing_file_is_told(run: Run) -> None:
    assert run(file="none.ndjson") == (
        3,
        "rejeu: no file is named none.ndjson: give a path or gs:// URI of Parquet or NDJSON, * allowed",
    )


def test_a_missing_column_is_told_with_those_there_are(run: Run, tmp_path: Path, broker: FakeBroker) -> None:
    pq.write_table(pa.table({"time": pa.array([0], pa.timestamp("us")), "n": [1]}), tmp_path / "rows.parquet")
    assert run(file="rows.parquet") == (3, "rejeu: --event-time at: the source has no 'at'; name one of n, time")
    assert run("--key=request,coin") == (
        3,
        "rejeu: --key coin is in none of the first 1 rows; they have at, request, symbol; name one",
    )
    assert broker.attempts == 0


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("null", "at is None"),
        ('"yesterday"', "at: 'yesterday' is not a time: write ISO 8601, such as 2021-05-01T00:00:00Z"),
        (
            '"2021-05-01T00:00:00"',
            "at: '2021-05-01T00:00:00' has no time zone: end it with Z, or with an offset such as +02:00",
        ),
        ("1.5", "at is 1.5"),
    ],
)
def test_a_row_without_a_readable_event_time_is_told_before_the_first_is_published(
    run: Run, tmp_path: Path, broker: FakeBroker, value: str, found: str
) -> None:
    (tmp_path / "rows.ndjson").write_text(ROW + f'{{"at": {value}, "request": "8"}}\n')
    assert run() == (
        3,
        f"rejeu: rows.ndjson, line 2: {found}"
        f"{': ' if found.startswith('at is') else '; '}an event time is a timestamp, a date, ISO 8601 text with a "
        "zone, or an integer with --time-unit; mend or remove it",
    )
    assert broker.attempts == 0


def test_a_truncated_file_is_told_before_the_first_row_is_published(
    run: Run, tmp_path: Path, broker: FakeBroker
) -> None:
    whole = gzip.compress(ROW.encode() * 1000)
    (tmp_path / "rows.ndjson.gz").write_bytes(whole[: len(whole) // 2])
    code, said = run(file="rows.ndjson.gz")
    assert code == 3
    assert said.startswith("rejeu: rows.ndjson.gz is truncated or damaged after line ")
    assert said.endswith("; replace the file")
    (tmp_path / "rows.ndjson").write_text(ROW + ROW[:30])
    code, said = run()
    assert code == 3
    assert said.startswith("rejeu: rows.ndjson, line 2 is broken: ")
    assert said.endswith("; each line must be one whole JSON object; mend or remove it")
    assert broker.attempts == 0


def test_a_row_that_pubsub_would_not_take_is_told_and_what_came_before_it_is_published_and_saved(
    run: Run, tmp_path: Path, broker: FakeBroker
) -> None:
    rows = [json.dumps({"at": f"2021-05-01T00:00:00.{n:06d}Z", "n": n}, separators=(",", ":")) for n in range(BEFORE)]
    large = '{"at":"2021-05-01T00:00:01Z","n":"large","text":"' + "x" * MAX_MESSAGE_BYTES + '"}'
    (tmp_path / "rows.ndjson").write_text("\n".join([*rows, large]))
    state = f"--state=sqlite:{tmp_path / 'state.db'}"
    code, said = run("--key=n", state, "--stream=big")
    assert (code, said) == (
        3,
        f"rejeu: row big/1619827201000000/large/0 has {len(large):,} bytes as JSON: Pub/Sub takes 10,000,000 a "
        "message, attributes included; leave columns or the row out with a query source",
    )
    assert broker.bodies == sorted(row.encode() for row in rows)
    (tmp_path / "rows.ndjson").write_text("\n".join([*rows, ROW.strip()]))
    assert run("--key=n", state, "--stream=big", "--from=cursor")[0] == 0
    assert len(broker.got) == BEFORE, "the cursor is behind the last row that was published"


# 4: the topic


def test_a_missing_topic_is_told_and_nothing_is_published(run: Run, broker: FakeBroker) -> None:
    broker.topic.append(refuse(grpc.StatusCode.NOT_FOUND))
    assert run() == (
        4,
        f"rejeu: {TOPIC} takes no messages: NOT_FOUND; create it, or let the stream's live DAG do so",
    )
    assert broker.attempts == 0


@pytest.mark.parametrize("answer", [refuse(grpc.StatusCode.NOT_FOUND), too_few_ids])
def test_a_topic_that_goes_while_rows_are_published_is_no_success(
    run: Run, broker: FakeBroker, answer: Callable[..., object]
) -> None:
    broker.on(ROW.strip().encode(), answer)
    assert run()[0] == 4


def test_a_broker_that_stays_away_is_told_with_what_to_do(run: Run, broker: FakeBroker) -> None:
    broker.topic.extend([UNAVAILABLE] * 100)
    assert run("--patience-seconds=0.2") == (
        4,
        f"rejeu: {TOPIC} takes no messages: UNAVAILABLE: gone; it was away for 0.2 s, and what was acknowledged is "
        "saved: start again with --from cursor once it is back",
    )


# 7: the state store


def test_a_state_store_that_cannot_be_used_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, said = run(f"--state=sqlite:{tmp_path / 'file' / 'state.db'}")
    assert code == 7
    assert said.startswith("rejeu: state store file/state.db: its folder cannot be made (")
    assert run("--state=redis:host")[0] == 2
