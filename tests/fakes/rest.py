"""What the fake servers that speak JSON over HTTP share: routes on a port of this machine."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Call:
    """A request: the parts of its path that the route names, its query and its JSON body."""

    method: str
    path: str
    parts: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)


class Refusal(Exception):
    """An answer of 300 or more."""

    def __init__(self, status: int, body: dict[str, Any] | None = None) -> None:
        super().__init__(status, body)
        self.status, self.body = status, body


Answer = dict[str, Any] | list[Any] | bytes | None
Route = tuple[str, str, Callable[[Call], Answer]]


class RestServer:
    """Answers each call by the first route of its method and path; bytes as they are, all else as JSON.

    `on_call` is called with each call first: a test may change the world there, or raise a Refusal.
    """

    type_of_bytes = "application/octet-stream"

    def __init__(self, routes: list[Route]) -> None:
        self.calls: list[Call] = []
        self.on_call: Callable[[Call], None] = lambda call: None
        self._routes = [(method, re.compile(pattern), answer) for method, pattern, answer in routes]
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more: whoever calls finds the port closed."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _answer(self, method: str, target: str, body: bytes) -> tuple[int, Answer]:
        url = urlsplit(target)
        for wanted, pattern, answer in self._routes:
            match = pattern.fullmatch(url.path)
            if match and wanted == method:
                query = dict(parse_qsl(url.query))
                call = Call(method, url.path, match.groupdict(), query, json.loads(body or b"{}"))
                self.calls.append(call)
                try:
                    self.on_call(call)
                    given = answer(call)
                except Refusal as refusal:
                    return refusal.status, refusal.body
                return 204 if given is None else 201 if method == "POST" else 200, given
        raise AssertionError(f"the fake server has no route for {method} {target}")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, given = server._answer(self.command, self.path, body)
                if isinstance(given, bytes):
                    kind, content = server.type_of_bytes, given
                else:
                    kind, content = "application/json", b"" if given is None else json.dumps(given).encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

            def log_message(self, format: str, *args: Any) -> None:
                """Not into the tests' output."""

        return Handler
