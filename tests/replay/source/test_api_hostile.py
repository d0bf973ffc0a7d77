"""An API that is broken or means harm: whatever it answers, the replay ends in our words and takes bounded memory."""

from __future__ import annotations

import gzip
import json
import logging
import random
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rejeu.errors import SourceError
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source import api_client
from rejeu.replay.source.api import Rows, _line, read_api
from rejeu.replay.source.rows import EVENT_US, ROW
from tests.fakes.replay_clock import NOW, SECOND, FakeClock
from tests.replay.rows import TOPIC

MINUTE = 60 * SECOND
GOOD = json.dumps({"records": [{"id": "a"}]}).encode()
BLOCK = b"x" * (1 << 16)
LARGE = 400_000_000
MOST_KILOBYTES = 200_000

Respond = Callable[[BaseHTTPRequestHandler], None]


class HostileApi(ThreadingHTTPServer):
    """Answers each question as its test says, and well once that is used up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Respond] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/stations"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever was told enough hangs up."""


class _Handler(BaseHTTPRequestHandler):
    server: HostileApi

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.server.headers.append(dict(self.headers))
        (self.server.answers.pop(0) if self.server.answers else answer())(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Not into the tests' output."""


def answer(body: bytes = GOOD, status: int = 200, **headers: str) -> Respond:
    """The answer that has this body and these headers, whose names have underscores for dashes."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def endless(handler: BaseHTTPRequestHandler, status: int = 200, **headers: str) -> None:
    """400 MB that do not say beforehand how much they are."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    server: Any = handler.server
    while server.sent < LARGE:
        handler.wfile.write(BLOCK)
        server.sent += len(BLOCK)


@pytest.fixture
def api() -> Iterator[HostileApi]:
    with HostileApi() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def request_of(api: HostileApi, tmp_path: Path) -> Callable[..., ReplayRequest]:
    def build(**values: Any) -> ReplayRequest:
        given: dict[str, Any] = {"topic": TOPIC, "stream": "bikes", "event_time": "observed_at", "key": ("id",)}
        return ReplayRequest.of(**given | {"api": api.url, "raw": f"{tmp_path}/dt={{partition}}"} | values)

    return build


@pytest.fixture
def read(request_of: Callable[..., ReplayRequest], clock: FakeClock) -> Callable[..., Iterator[pa.Table]]:
    def tables(start_us: int | None = None, **values: Any) -> Iterator[pa.Table]:
        return read_api(request_of(**values), start_us, None, clock)

    return tables


Read = Callable[..., Iterator[pa.Table]]


# How long it wants to be left alone


@pytest.mark.parametrize(
    "retry_after",
    ["9" * 25, "9" * 5_000, "Fri, 20 Nov 9999 12:00:40 GMT", "Fri, 31 Dec 9999 23:59:59 -2359"],
    ids=["25 digits", "5,000 digits", "the last year", "beyond the last year"],
)
def test_a_pause_without_measure_is_borne_as_any_other_silence(
    retry_after: str, read: Read, api: HostileApi, clock: FakeClock
) -> None:
    api.answers = [answer(b"", 503, Retry_After=retry_after)]
    with pytest.raises(SourceError, match=r"has not answered for 6\d\d s \(it asked for a pause until 2026-11-2"):
        next(read())
    assert clock.us - NOW < 15 * MINUTE


@pytest.mark.parametrize(
    "retry_after",
    [
        "Fri, 20 Nov 99999 12:00:40 GMT",
        "Fri, 20 Nov 2026 12:00:40 +99999999999999999999",
        "Mon, 01 Jan 0001 00:00:00 -0000",
        "-5",
        "soon",
    ],
)
def test_a_pause_that_is_none_is_none(retry_after: str, read: Read, api: HostileApi) -> None:
    api.answers = [answer(b"", 503, Retry_After=retry_after)]
    assert next(read()).num_rows == 1


def test_a_date_of_no_zone_is_of_utc(
    read: Read, api: HostileApi, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        api.answers = [answer(b"", 503, Retry_After="Fri, 20 Nov 2026 12:00:40 -0000")]
        next(read())
    finally:
        monkeypatch.undo()
        time.tzset()
    assert NOW + 40 * SECOND <= clock.us < NOW + MINUTE


# How much it answers


@pytest.mark.parametrize(
    "large",
    [
        pytest.param(endless, id="without a length"),
        pytest.param(answer(b"", Content_Length=str(LARGE)), id="with its length"),
        pytest.param(answer(gzip.compress(bytes(40_000_000), 1), Content_Encoding="gzip"), id="compressed"),
    ],
)
def test_an_answer_that_is_too_large_is_left_after_its_first_megabytes_and_its_step_is_a_gap(
    large: Respond, read: Read, api: HostileApi, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    api.answers = [large]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = next(read())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KILOBYTES
    assert clock.us == NOW + MINUTE  # asked for it once, and not again in that step
    assert api.sent < LARGE / 4
    assert (table.num_rows, len(api.paths)) == (1, 2)
    assert "its answer is larger than 16,000,000 bytes" in caplog.text


def test_what_refers_to_another_address_is_not_read_however_long_it_is(read: Read, api: HostileApi) -> None:
    api.answers = [lambda handler: endless(handler, 302, Location="/moved")]
    assert next(read()).num_rows == 1
    assert api.sent < LARGE / 4


def test_who_refers_on_and_on_is_told(read: Read, api: HostileApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "PATIENT_STEPS", 2)
    api.answers = [answer(b"", 302, Location="/again")] * 1_000
    with pytest.raises(SourceError, match=r"\(it refers to another address more than 5 times\)"):
        next(read(every_seconds=1, patience_seconds=1))


def test_an_api_that_answers_too_much_for_long_is_told_to_a_person(
    read: Read, api: HostileApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_client, "MOST_BYTES", 10)
    with pytest.raises(SourceError, match=r"has not answered for 6\d\d s \(its answer is larger than 10 bytes"):
        next(read())


# What its records have


def test_a_record_with_an_observed_at_of_its_own_happened_when_it_was_asked_for(
    read: Read, api: HostileApi, caplog: pytest.LogCaptureFixture
) -> None:
    old = {"id": "a", "observed_at": "1999-01-01T00:00:00Z"}
    body = json.dumps({"records": [old, {"id": "b", "observed_at": {"x": 1}}], "observed_at": 7}).encode()
    api.answers = [answer(body), answer(body)]
    with caplog.at_level(logging.WARNING):
        tables = read()
        first = next(tables)
        next(tables)
    assert first[EVENT_US].to_pylist() == [NOW, NOW]
    asked_at = "2026-11-20T12:00:00.000000Z"
    assert [json.loads(row) for row in first[ROW].to_pylist()] == [
        {"id": each, "observed_at": asked_at} for each in ("a", "b")
    ]
    (said,) = caplog.messages
    assert said.startswith("bikes: the API's records have an observed_at of their own: in the rows it is when it was")


VALUES = [
    *(
        "1",
        "null",
        "true",
        '"x"',
        '"\\ud800"',
        '"\\u0000"',
        "9" * 400,
        "9" * 5_000,
        "-1e400",
        "1e400",
        "[]",
        "{}",
        "-0",
    ),
    *(
        "[" * 300 + "]" * 300,
        "[" * 900 + "]" * 900,
        '{"b":' * 300 + "1" + "}" * 300,
        '{"b":"c"}',
        '{"b":{"c":1}}',
        "0.1",
    ),
]


def test_what_was_taken_for_an_answer_becomes_rows_or_is_refused_in_our_words(
    request_of: Callable[..., ReplayRequest], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    rng, rows = random.Random(12), 0
    told: list[str] = []
    made = Rows(request_of(key=("id", "a.b")))
    for _ in range(2_000):
        records = []
        for _ in range(rng.randint(0, 3)):
            names = rng.choices(["id", "a", "observed_at", ""], k=rng.randint(0, 4))
            records.append(",".join(f'"{name}":{rng.choice(VALUES)}' for name in names))
        more = rng.choice(["", f',"observed_at":{rng.choice(VALUES)}', ',"records":[]'])
        body = f'{{"records":[{",".join(f"{{{each}}}" for each in records)}]{more}}}'.encode()
        is_good = False
        with suppress(ValueError, RecursionError):
            made.check(body)
            is_good = True
        if is_good:
            try:
                rows += made.of(_line(body, NOW), "a file").num_rows
            except SourceError as error:
                told.append(str(error))
    assert rows > 50
    assert len(told) > 100
    assert {each.split()[0] for each in told} == {"--key"}, "no row has the key; nothing else is wrong with any"


def test_an_answer_that_could_never_be_rows_is_not_kept(read: Read, api: HostileApi, tmp_path: Path) -> None:
    api.answers = [answer(b'{"records": [{"id": 1e400}]}')]
    assert next(read()).num_rows == 1
    assert [json.loads(file.read_text())["records"] for file in tmp_path.rglob("*.json")] == [[{"id": "a"}]]
    assert len(api.paths) == 2


# How long ago it begins


def test_a_start_years_back_costs_no_memory_for_each_step(
    read: Read, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    year_us = 365 * 24 * 60 * MINUTE
    folder = tmp_path / "dt=2026-11-20"
    folder.mkdir()
    (folder / "115900.json").write_bytes(GOOD[:-1] + b',"observed_at":"2026-11-20T11:59:00.000000Z"}\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.thread_time()
    with caplog.at_level(logging.WARNING):
        next(read(NOW - 10 * year_us))
    assert time.thread_time() - begun < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KILOBYTES / 10
    (said,) = caplog.messages
    steps = 10 * 365 * 24 * 60 - 1
    assert said == f"bikes: nobody asked the API {steps} times from 2016-11-22T12:00:00.000000Z on: gaps"


def test_the_first_gap_is_told_after_what_was_kept(
    read: Read, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "dt=2026-11-20"
    folder.mkdir()
    for minute in ("55", "56", "58"):
        at = f"2026-11-20T11:{minute}:00.000000Z"
        (folder / f"11{minute}00.json").write_text(json.dumps({"records": [], "observed_at": at}) + "\n")
    with caplog.at_level(logging.WARNING):
        list(zip(range(3), read(NOW - 5 * MINUTE), strict=False))
    assert caplog.messages == ["bikes: nobody asked the API 2 times from 2026-11-20T11:57:00.000000Z on: gaps"]


# What it is asked with


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STATIONS_KEY", "s3cr3t/0f stations")
    return "s3cr3t/0f stations"


def test_references_are_filled_in_what_is_sent_and_nowhere_else(read: Read, api: HostileApi, key: str) -> None:
    next(read(api=f"{api.url}?apikey={{env:STATIONS_KEY}}", headers='{"Authorization": "Bearer {env:STATIONS_KEY}"}'))
    assert api.paths == ["/stations?apikey=s3cr3t%2F0f%20stations"]
    assert api.headers[0]["Authorization"] == f"Bearer {key}"


def test_a_secret_that_is_missing_is_told_at_once(read: Read, api: HostileApi, clock: FakeClock) -> None:
    with pytest.raises(SourceError, match=r"^\{env:NO_SUCH_KEY\} is not there, where the replay runs"):
        next(read(api=f"{api.url}?apikey={{env:NO_SUCH_KEY}}"))
    assert (clock.us, api.paths) == (NOW, [])


def refused_with_the_key(handler: BaseHTTPRequestHandler) -> None:
    """A refusal whose reason, and whose broken headers, repeat what was asked."""
    handler.wfile.write(f"HTTP/1.0 403 no {handler.path}\r\nbroken\r\n\r\n".encode())


def hanging_up(handler: BaseHTTPRequestHandler) -> None:
    """No answer at all."""


@pytest.mark.parametrize("fault", [refused_with_the_key, answer(b"", 401), hanging_up])
def test_no_log_and_no_error_has_a_secret(
    fault: Respond, read: Read, api: HostileApi, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    api.answers = [fault] * 1_000
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceError, match=r"apikey=\{env:STATIONS_KEY\}") as caught:
        next(read(api=f"{api.url}?apikey={{env:STATIONS_KEY}}", every_seconds=1, patience_seconds=1))
    assert "s3cr3t" not in f"{caught.value} {caplog.text}"
    assert caught.value.__cause__ is None


def test_a_server_that_refers_to_another_one_does_not_get_its_key_there(read: Read, api: HostileApi, key: str) -> None:
    with HostileApi() as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        api.answers = [answer(b"", 302, Location=other.url)]
        next(read(headers='{"X-Api-Key": "{env:STATIONS_KEY}"}'))
        other.shutdown()
    assert api.headers[0]["X-Api-Key"] == key
    assert len(other.headers) == 1
    assert "X-Api-Key" not in other.headers[0]


def test_a_server_that_refers_to_itself_gets_it_again(read: Read, api: HostileApi, key: str) -> None:
    api.answers = [answer(b"", 302, Location="/moved")]
    next(read(headers='{"X-Api-Key": "{env:STATIONS_KEY}"}'))
    assert [(path, given["X-Api-Key"]) for path, given in zip(api.paths, api.headers, strict=True)] == [
        ("/stations", key),
        ("/moved", key),
    ]
