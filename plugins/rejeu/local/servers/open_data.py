"""A stand-in for Lille's open-data server: the V'lille stations now, and now and then an error, or a slow answer.

What stations have is a function of the time alone, so whoever knows when an answer was made knows what was in it.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

PATH: Final = "/api/records/1.0/search"
DATASET: Final = "vlille-realtime"
STATIONS: Final = 289
CENTRE: Final = (50.6333, 3.0667)
COMMUNES: Final = ("LILLE", "LILLE", "LILLE", "ROUBAIX", "TOURCOING", "VILLENEUVE D'ASCQ", "MARCQ EN BAROEUL", "LOOS")
DAY_SECONDS: Final = 86_400
SEVERAL: Final = 10
"""Rows of an answer that does not say how many it wants, as the real one has it."""
RETRY_AFTER_SECONDS: Final = 1
SLOW_SECONDS: Final = 1.5
FAULTS: Final = ("error", "busy", "slow", "cut")


def records_at(instant: datetime, count: int = STATIONS) -> list[dict[str, Any]]:
    """What the stations say at this instant: each changes about once a minute, at a second of its own."""
    return [_record(number, instant) for number in range(1, count + 1)]


def _record(number: int, instant: datetime) -> dict[str, Any]:
    fixed = Random(number)
    docks = fixed.randrange(12, 41)
    place = [round(centre + fixed.uniform(-0.08, 0.08), 6) for centre in CENTRE]
    # It told its state last at its own second of this minute, or of the one before.
    second = int(instant.timestamp())
    told = second - (second - number) % 60
    works = number % 97 != 0
    day = 2 * math.pi * (told / DAY_SECONDS + fixed.random())
    bikes = round((0.5 + 0.4 * math.sin(day) + 0.1 * Random(f"{number} {told}").uniform(-1, 1)) * docks)
    fields = {
        "nbvelosdispo": bikes if works else 0,
        "nbplacesdispo": docks - bikes if works else 0,
        "libelle": str(number),
        "adresse": f"{fixed.randrange(1, 200)} RUE NATIONALE",
        "nom": f"STATION {number:03d}",
        "etat": "EN SERVICE" if works else "HORS SERVICE",
        "commune": COMMUNES[number % len(COMMUNES)],
        "etatconnexion": "CONNECTED" if works else "DISCONNECTED",
        "type": "AVEC TPE" if number % 3 == 0 else "SANS TPE",
        "localisation": place,
        "datemiseajour": datetime.fromtimestamp(told, UTC).isoformat(),
    }
    return {
        "datasetid": DATASET,
        "recordid": blake2b(str(number).encode(), digest_size=20).hexdigest(),
        "fields": fields,
        "geometry": {"type": "Point", "coordinates": place[::-1]},
        "record_timestamp": instant.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


class OpenDataServer(ThreadingHTTPServer):
    """Port 0 takes any that is free. `rates` says how often each of FAULTS befalls an answer, 0 to 1, by `seed`."""

    daemon_threads = True

    def __init__(
        self, port: int, rates: dict[str, float], seed: int = 1, stations: int = STATIONS, host: str = "127.0.0.1"
    ) -> None:
        super().__init__((host, port), _Handler)
        self.stations = stations
        self._rates, self._random = rates, Random(seed)
        self._lock = threading.Lock()

    def next_fault(self) -> str | None:
        """What befalls the next answer."""
        with self._lock:
            drawn = self._random.random()
        for fault in FAULTS:
            drawn -= self._rates.get(fault, 0.0)
            if drawn < 0:
                return fault
        return None

    def answer(self, query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """Status and body, as the real API has them."""
        if query.get("dataset") != [DATASET]:
            return HTTPStatus.NOT_FOUND, {"error": "Unknown dataset", "errorcode": 20001}
        wanted = int(query.get("rows", [str(SEVERAL)])[0])
        records = records_at(datetime.now(UTC), self.stations)
        parameters = {"dataset": DATASET, "rows": wanted, "start": 0, "format": "json", "timezone": "UTC"}
        found = records if wanted < 0 else records[:wanted]
        return HTTPStatus.OK, {"nhits": len(records), "parameters": parameters, "records": found}


class _Handler(BaseHTTPRequestHandler):
    server: OpenDataServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.rstrip("/") != PATH:
            self._send(HTTPStatus.OK if url.path == "/" else HTTPStatus.NOT_FOUND, b"{}")
            return
        status, content = self.server.answer(parse_qs(url.query))
        body = json.dumps(content, ensure_ascii=False).encode()
        match self.server.next_fault():
            case "error":
                self._send(HTTPStatus.INTERNAL_SERVER_ERROR, b'{"error": "An error occurred"}')
            case "busy":
                self._send(HTTPStatus.TOO_MANY_REQUESTS, b'{"errorcode": 10002}', after=RETRY_AFTER_SECONDS)
            case "slow":
                time.sleep(SLOW_SECONDS)
                self._send(status, body)
            case "cut":
                self._send(status, body, sent=len(body) // 2)
            case _:
                self._send(status, body)

    def _send(self, status: int, body: bytes, after: int | None = None, sent: int | None = None) -> None:
        """Answer; with `sent`, only so many bytes of what is promised."""
        with suppress(ConnectionError):  # who asked may not have waited
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            if after is not None:
                self.send_header("Retry-After", str(after))
            self.end_headers()
            self.wfile.write(body[:sent])

    def log_message(self, format: str, *args: object) -> None:
        """Who asks every minute leaves nothing here that a person would act on."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m rejeu.local.servers.open_data", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1, help="which answers the faults befall (default: %(default)s)")
    parser.add_argument("--stations", type=int, default=STATIONS, help="how many there are (default: %(default)s)")
    for fault, what in zip(FAULTS, ("status 500", "429 with Retry-After", "slow", "truncated"), strict=True):
        text = f"share of answers that are {what} (default: %(default)s)"
        parser.add_argument(f"--{fault}", type=float, default=0.02, metavar="SHARE", help=text)
    arguments = parser.parse_args(argv)
    rates = {fault: getattr(arguments, fault) for fault in FAULTS}
    with OpenDataServer(arguments.port, rates, arguments.seed, arguments.stations, arguments.host) as server:
        # `shutdown` waits for `serve_forever`, which runs in the thread that the signal interrupts.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        print(f"rejeu: open data is serving on {arguments.host}:{server.server_port}", file=sys.stderr, flush=True)
        server.serve_forever(poll_interval=0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
