"""Cloud Storage's JSON API in this process, as far as a state store needs it, that misbehaves on command; no test.

Unlike the emulator from PyPI it enforces `ifGenerationMatch`, so a fencing test on it proves something.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

from rejeu.timeline import format_instant

BUCKET: Final = "rejeu-test"
Fault = int | Literal["lost", "cut"] | None
"""Refuse with that status; do it, but close the connection before the answer, or amid it; or behave."""
FIRST_GENERATION: Final = 1_790_000_000_000_000
"""Real ones are microseconds since 1970, and never come again."""
LATE: Final = "At least one of the pre-conditions you specified did not hold."
PAGE: Final = 3
"""Names in one page of a list; the real one has a thousand."""
RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
OBJECTS: Final = re.compile(r"(/upload|/download)?/storage/v1/b/(?P<bucket>[^/]+)/o(/(?P<name>.+))?")


@dataclass(frozen=True)
class Object:
    """One generation of an object."""

    body: bytes
    generation: int
    written: float
    updated: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Answer:
    """What is sent back, unless a fault comes between."""

    status: int
    body: bytes
    headers: dict[str, str]


class StorageServer(ThreadingHTTPServer):
    """Holds buckets of objects; each request is done alone, so a precondition and its write are one step."""

    request_queue_size = 64

    def __init__(self, *buckets: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults: Iterator[Fault] = iter(())
        """What befalls the next requests, one after the other; afterwards all goes well."""
        self.seconds_between_writes = 0.0
        """How soon an object may be written again; the real service asks for a second."""
        self.answering = threading.Event()
        """While it is clear, requests are done and not answered."""
        self.answering.set()
        self.requests: list[str] = []
        """What was asked, as `METHOD name`, or a path that is not served."""
        self.downloaded_bytes = 0
        self.objects: dict[str, dict[str, Object]] = {bucket: {} for bucket in buckets}
        self._generations = itertools.count(FIRST_GENERATION)
        self._turn = threading.Lock()

    @property
    def address(self) -> str:
        """As STORAGE_EMULATOR_HOST wants it."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        # A short poll, for closing waits for it.
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answering.set()
        self.shutdown()
        self.server_close()

    def ask(self, method: str, target: str, headers: Message, body: bytes) -> tuple[Answer, Fault]:
        """Do what is asked, unless a fault forbids it; how to answer, and what befalls the answer."""
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        found = OBJECTS.fullmatch(url.path)
        if found is None:
            self.requests.append(f"{method} {url.path}")
            return _refusal(501, f"{target} is not served here"), None
        name = unquote(found["name"] or "")
        if method == "POST":
            name, body = _unpack(headers["Content-Type"], body)
        with self._turn:
            fault = next(self.faults, None)
            self.requests.append(f"{method} {name}".strip())
            if isinstance(fault, int):
                return _refusal(fault, HTTPStatus(fault).phrase), None
            objects = self.objects.get(found["bucket"])
            if objects is None:
                return _refusal(404, "The specified bucket does not exist."), fault
            if method == "POST":
                return self._write(objects, name, body, query), fault
            if method == "DELETE":
                return _delete(objects, name, query), fault
            return (self._download(objects, name, headers) if name else _page(objects, query)), fault

    def _download(self, objects: dict[str, Object], name: str, headers: Message) -> Answer:
        answer = _download(objects, name, headers["Range"])
        self.downloaded_bytes += len(answer.body)
        return answer

    def _write(self, objects: dict[str, Object], name: str, body: bytes, query: dict[str, str]) -> Answer:
        there, now = objects.get(name), time.monotonic()
        if there and now - there.written < self.seconds_between_writes:
            return _refusal(429, f"The object {name} exceeded the rate limit for object mutation operations.")
        if _is_late(there, query):
            return _refusal(412, LATE)
        objects[name] = Object(body, next(self._generations), now)
        return _json(200, {"name": name, "generation": str(objects[name].generation)})


class _Handler(BaseHTTPRequestHandler):
    server: StorageServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: `StorageServer.requests` has it."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer, fault = self.server.ask(self.command, self.path, self.headers, body)
        self.server.answering.wait()
        self.close_connection = fault is not None
        if fault == "lost" or (fault == "cut" and not answer.body):
            return
        with suppress(ConnectionError):  # the client may not have waited
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: len(answer.body) // 2] if fault == "cut" else answer.body)


def _unpack(kind: str, body: bytes) -> tuple[str, bytes]:
    """The name and the content of a multipart upload."""
    message: Any = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    metadata, content = message.get_payload()
    return json.loads(metadata.get_payload())["name"], content.get_payload(decode=True)


def _is_late(there: Object | None, query: dict[str, str]) -> bool:
    """Whether the object is no longer the generation that the client asked for."""
    expected = query.get("ifGenerationMatch")
    return expected is not None and int(expected) != (there.generation if there else 0)


def _delete(objects: dict[str, Object], name: str, query: dict[str, str]) -> Answer:
    if name not in objects:
        return _refusal(404, f"No such object: {name}")
    if _is_late(objects[name], query):
        return _refusal(412, LATE)
    del objects[name]
    return Answer(204, b"", {})


def _download(objects: dict[str, Object], name: str, wanted: str | None) -> Answer:
    if name not in objects:
        return Answer(404, f"No such object: {name}".encode(), {"Content-Type": "text/html"})
    found = objects[name]
    checksum = base64.b64encode(google_crc32c.Checksum(found.body).digest()).decode()
    headers = {"X-Goog-Generation": str(found.generation), "X-Goog-Hash": f"crc32c={checksum}"}
    part = RANGE.fullmatch(wanted or "")
    if part is None:
        return Answer(200, found.body, headers)
    first, size = int(part[1]), len(found.body)
    if first >= size:
        return Answer(416, b"", headers | {"Content-Range": f"bytes */{size}"})
    end = min(size, int(part[2] or size) + 1)
    return Answer(206, found.body[first:end], headers | {"Content-Range": f"bytes {first}-{end - 1}/{size}"})


def _page(objects: dict[str, Object], query: dict[str, str]) -> Answer:
    after = query.get("pageToken", "")
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
    below = len(prefix)
    names = sorted(
        name
        for name in objects
        if name.startswith(prefix) and name > after and not (delimiter and delimiter in name[below:])
    )
    page = min(PAGE, int(query.get("maxResults", PAGE)))
    following = {"nextPageToken": names[page - 1]} if len(names) > page else {}
    items = [
        {
            "name": name,
            "generation": str(objects[name].generation),
            "updated": format_instant(objects[name].updated),
            "size": str(len(objects[name].body)),
        }
        for name in names[:page]
    ]
    cut = [name[below:].partition(delimiter) for name in objects if name.startswith(prefix)] if delimiter else []
    folders = sorted({f"{prefix}{head}{mark}" for head, mark, _ in cut if mark})
    return _json(200, {"items": items, "prefixes": folders, **following})


def _refusal(status: int, message: str) -> Answer:
    return _json(status, {"error": {"code": status, "message": message}})


def _json(status: int, content: dict[str, Any]) -> Answer:
    return Answer(status, json.dumps(content).encode(), {"Content-Type": "application/json; charset=UTF-8"})
