"""An API as a source: a real server that misbehaves in every way, and rows that are the same for whoever reads them."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rejeu.errors import RequestError, SourceError
from rejeu.jobs.request import ReconcileRequest, ReplayRequest
from rejeu.local.servers import open_data
from rejeu.local.servers.open_data import OpenDataServer
from rejeu.replay.order import in_order
from rejeu.replay.source import api_client
from rejeu.replay.source.api import read_api
from rejeu.replay.source.rows import ROW
from rejeu.timeline import Position
from tests.fakes.replay_clock import NOW, SECOND, FakeClock
from tests.replay.rows import TOPIC, Rows, rows_of

STATIONS = 3
MINUTE = 60 * SECOND
DAY = "dt=2026-11-20"

Read = Callable[..., Iterator[pa.Table]]


class Server(OpenDataServer):
    """An open-data server of few stations; what befalls its next answers is told beforehand."""

    def __init__(self) -> None:
        super().__init__(0, {}, stations=STATIONS)
        self.faults: list[str | None] = []
        self.asked = 0
        self.while_asked: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{open_data.PATH}/?dataset=vlille-realtime&rows=-1"

    def next_fault(self) -> str | None:
        self.asked += 1
        self.while_asked()
        return self.faults.pop(0) if self.faults else None


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        threading.Thread(target=started.serve_forever, args=(0.01,), daemon=True).start()
        yield started
        started.shutdown()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def request_of(server: Server, tmp_path: Path) -> Callable[..., ReplayRequest]:
    def build(**values: Any) -> ReplayRequest:
        given: dict[str, Any] = {"topic": TOPIC, "stream": "bikes", "event_time": "observed_at", "key": ("recordid",)}
        return ReplayRequest.of(**given | {"api": server.url, "raw": f"{tmp_path}/dt={{partition}}"} | values)

    return build


@pytest.fixture
def read(request_of: Callable[..., ReplayRequest], clock: FakeClock) -> Read:
    """Reads the API; the clock goes on only where it is waited for."""

    def tables(start_us: int | None = None, until_us: int | None = None, **values: Any) -> Iterator[pa.Table]:
        return read_api(request_of(**values), start_us, until_us, clock)

    return tables


def observed(table: pa.Table) -> list[str]:
    return [json.loads(row)["observed_at"][11:19] for row in table[ROW].to_pylist()]


def keep(tmp_path: Path, second: str, *ids: str) -> None:
    """A raw file, as somebody kept it."""
    records = [{"recordid": each, "fields": {"libelle": each}} for each in ids]
    at = f"2026-11-20T{second[:2]}:{second[2:4]}:{second[4:]}.000000Z"
    folder = tmp_path / DAY
    folder.mkdir(exist_ok=True)
    (folder / f"{second}.json").write_text(json.dumps({"records": records, "observed_at": at}) + "\n")


# What is kept, and what becomes of it


def test_an_answer_is_kept_as_it_came_before_its_records_are_rows(read: Read, server: Server, tmp_path: Path) -> None:
    table = next(read())
    (file,) = tmp_path.rglob("*.json")
    assert file == tmp_path / DAY / "120000.json"
    (line,) = file.read_text().splitlines()
    kept = json.loads(line)
    assert kept.pop("observed_at") == "2026-11-20T12:00:00.000000Z"
    assert list(kept) == ["nhits", "parameters", "records"]
    told = {"observed_at": "2026-11-20T12:00:00.000000Z"}
    assert [json.loads(row) for row in table[ROW].to_pylist()] == [told | record for record in kept["records"]]
    assert len(kept["records"]) == STATIONS


def test_the_rows_of_an_answer_do_not_wait_for_the_next_one(
    read: Read, server: Server, request_of: Callable[..., ReplayRequest]
) -> None:
    first = next(in_order(read(), request_of()))
    assert (len(first), server.asked) == (STATIONS, 1)


def test_it_is_asked_once_a_step_and_speed_makes_steps_shorter(read: Read, server: Server) -> None:
    asked = read(every_seconds=120, speed=60)
    assert [observed(next(asked))[0] for _ in range(3)] == ["12:00:00", "12:00:02", "12:00:04"]
    assert server.asked == 3


def test_no_speed_asks_more_than_once_a_second(read: Read) -> None:
    asked = read(speed=600)
    assert [observed(next(asked))[0] for _ in range(2)] == ["12:00:00", "12:00:01"]


def test_an_answer_that_somebody_kept_is_read_and_not_asked_for(read: Read, server: Server, tmp_path: Path) -> None:
    keep(tmp_path, "120000", "a", "b")
    assert observed(next(read())) == ["12:00:00", "12:00:00"]
    assert server.asked == 0


def test_of_two_that_ask_at_once_both_publish_the_answer_of_the_first(
    read: Read, server: Server, tmp_path: Path
) -> None:
    server.while_asked = lambda: keep(tmp_path, "120000", "the other's")
    (row,) = next(read())[ROW].to_pylist()
    assert json.loads(row)["recordid"] == "the other's"


def test_a_standby_leaves_the_question_to_the_holder_for_a_while(read: Read, clock: FakeClock, server: Server) -> None:
    next(read(standby=True, state="sqlite:unused"))
    assert clock.us == NOW + 2 * SECOND
    assert server.asked == 1


# What has passed


def test_history_is_what_was_kept_and_then_it_is_asked(
    read: Read, server: Server, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for minute in ("00", "01", "04"):
        keep(tmp_path, f"12{minute}00", "a")
    clock.us += 6 * MINUTE
    with caplog.at_level(logging.WARNING):
        asked = read()
        assert [observed(next(asked))[0] for _ in range(4)] == ["12:00:00", "12:01:00", "12:04:00", "12:06:00"]
    assert server.asked == 1
    (said,) = caplog.messages
    assert said == "bikes: nobody asked the API 3 times from 2026-11-20T12:02:00.000000Z on: gaps"


def test_it_goes_on_at_the_cursor_amid_an_answer(
    read: Read, request_of: Callable[..., ReplayRequest], tmp_path: Path, clock: FakeClock
) -> None:
    keep(tmp_path, "120000", "a", "b", "c")
    clock.us += MINUTE
    chunks = in_order(read(NOW), request_of(), Position(NOW, 2))
    assert [row_id for _, row_id, _ in rows_of(next(chunks))] == [f"bikes/{NOW}/c/0"]
    assert {event_us for event_us, _, _ in rows_of(next(chunks))} == {NOW + MINUTE}


def test_whoever_compares_the_past_reads_the_same_rows_and_asks_nobody(
    request_of: Callable[..., ReplayRequest], read: Read, server: Server
) -> None:
    asked = in_order(read(), request_of())
    replayed: Rows = [row for _ in range(3) for row in rows_of(next(asked))]
    before = server.asked
    request = request_of()
    compared = ReconcileRequest.of(
        **{name: getattr(request, name) for name in ("topic", "stream", "api", "raw", "event_time", "key")},
        until="2026-11-20T12:03:00Z",
        pipeline="stations",
        streaming_table="p.d.t",
        streaming_time="observed_at",
        dead_letters="p.d.dead",
    )
    clock = FakeClock()
    clock.us += 30 * MINUTE
    again = in_order(read_api(compared.reading, None, NOW + 3 * MINUTE, clock), compared.reading)
    assert [row for chunk in again for row in rows_of(chunk)] == replayed
    assert server.asked == before


def test_of_a_step_that_is_still_going_on_who_compares_asks_nobody_either(
    request_of: Callable[..., ReplayRequest], server: Server, tmp_path: Path, clock: FakeClock
) -> None:
    for second in ("115900", "120000"):
        keep(tmp_path, second, "a")
    clock.us += 30 * SECOND
    until_us = NOW - 30 * SECOND
    assert [observed(table) for table in read_api(request_of(), None, until_us, clock)] == [["11:59:00"]]
    (tmp_path / DAY / "120000.json").unlink()
    assert [observed(table) for table in read_api(request_of(), None, NOW + 1, clock)] == [["11:59:00"]]
    assert server.asked == 0


def test_a_file_that_somebody_broke_is_named(read: Read, tmp_path: Path) -> None:
    (tmp_path / DAY).mkdir()
    (tmp_path / DAY / "120000.json").write_text('{"records": [')
    with pytest.raises(SourceError, match=rf"{DAY}/120000.json is broken: Input data was truncated; mend or remove"):
        next(read())


def test_a_key_that_no_record_has_is_refused(read: Read) -> None:
    with pytest.raises(SourceError, match="--key station is in none of the first 3 rows; they have datasetid, fields"):
        next(read(key=("station",)))


# An API that misbehaves


@pytest.mark.parametrize("faults", [["error"], ["busy"], ["cut"], ["slow"], ["cut", "error", "busy", "slow"]])
def test_what_does_not_answer_well_is_asked_again(
    faults: list[str | None], read: Read, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_client, "READ_SECONDS", 0.2)
    server.faults = list(faults)
    assert observed(next(read())) == ["12:00:00"] * STATIONS
    assert server.asked == len(faults) + 1
    assert len([*tmp_path.rglob("*.json")]) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"<html>We are back soon</html>",
        b"{}",
        b"[]",
        b'{"records": [7]}',
        b'{"records": "',
        b'{"records": [], "a": "\xff"}',
    ],
)
def test_what_is_no_answer_is_never_kept(
    body: bytes, read: Read, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([body])
    real = open_data._Handler._send
    monkeypatch.setattr(
        open_data._Handler, "_send", lambda self, status, good, **how: real(self, status, next(answers, good), **how)
    )
    assert len(next(read())) == STATIONS
    assert server.asked == 2


def test_the_pause_that_it_asks_for_is_kept(
    read: Read, server: Server, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_data, "RETRY_AFTER_SECONDS", 90)
    server.faults = ["busy"]
    assert observed(next(read()))[0] == "12:01:00"
    assert clock.us >= NOW + 90 * SECOND
    assert server.asked == 2


def test_a_date_says_when_to_come_back_too(
    read: Read, server: Server, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_data, "RETRY_AFTER_SECONDS", "Fri, 20 Nov 2026 12:00:40 GMT")
    server.faults = ["busy"]
    assert observed(next(read()))[0] == "12:00:00"
    assert clock.us >= NOW + 40 * SECOND


def test_a_step_without_an_answer_is_a_gap_and_the_next_one_is_asked_for(
    read: Read, server: Server, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    server.while_asked = lambda: server.faults.append("error" if clock.us < NOW + MINUTE else None)
    with caplog.at_level(logging.INFO):
        assert observed(next(read()))[0] == "12:01:00"
    first, gap, well = caplog.messages
    assert "no answer from http" in first
    assert gap.startswith("bikes: 2026-11-20T12:00:00.000000Z stays without an answer: it answers 500")
    assert well.startswith("bikes: the API answers again after 60")


def test_a_dead_api_is_borne_for_ten_steps_and_then_a_person_must_look(
    read: Read, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(SourceError, match=r"--api http://127.0.0.1:1/ has not answered for 6\d\d s .*--from cursor"),
    ):
        next(read(api="http://127.0.0.1:1/"))
    assert 10 * MINUTE < clock.us - NOW <= 12 * MINUTE
    assert len([each for each in caplog.messages if "trying again" in each]) == 1
    assert len([each for each in caplog.messages if "stays without an answer" in each]) in (11, 12)


def test_a_question_that_it_does_not_take_is_told_at_once(read: Read, server: Server, clock: FakeClock) -> None:
    with pytest.raises(SourceError, match="answers 404 Not Found: it does not take this question; mend it"):
        next(read(api=server.url.replace("vlille", "vparis")))
    assert clock.us == NOW


def test_an_address_that_is_none_is_told_at_once(read: Read) -> None:
    with pytest.raises(RequestError, match="--api: it is 'opendata': it must be a web address"):
        next(read(api="opendata"))
