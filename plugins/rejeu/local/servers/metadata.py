"""A stand-in for the metadata server of a Google machine: credentials that open nothing, for clients of emulators.

`GCE_METADATA_HOST` and `GCE_METADATA_IP` name it (host:port); `google.auth.default()` then works unpatched.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Not an e-mail address: google-auth asks the real Google about those, in the background, whatever the token.
ACCOUNT = {"email": "rejeu-local", "aliases": ["default"], "scopes": ["local"]}
TOKEN = {"access_token": "local", "expires_in": 3600, "token_type": "Bearer"}
ROOT = "/computeMetadata/v1"


class MetadataServer(ThreadingHTTPServer):
    """Port 0 takes any that is free, `server_port` tells which."""

    daemon_threads = True

    def __init__(self, port: int, project: str, host: str = "127.0.0.1") -> None:
        super().__init__((host, port), _Handler)
        self.answers = {
            "": "",
            f"{ROOT}/project/project-id": project,
            f"{ROOT}/universe/universe-domain": "googleapis.com",
        }
        for name in ("default", ACCOUNT["email"]):  # who was told the name asks by it from then on
            account = f"{ROOT}/instance/service-accounts/{name}"
            self.answers |= {
                account: json.dumps(ACCOUNT),
                f"{account}/email": str(ACCOUNT["email"]),
                f"{account}/token": json.dumps(TOKEN),
            }


class _Handler(BaseHTTPRequestHandler):
    server: MetadataServer

    def do_GET(self) -> None:
        answer = self.server.answers.get(urlsplit(self.path).path.rstrip("/"))
        body = str(answer or "").encode()
        self.send_response(404 if answer is None else 200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if body.startswith(b"{") else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Every client asks every hour: nothing a person would act on."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m rejeu.local.servers.metadata", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--project", default="rejeu-local", help="the project that clients without one are in")
    arguments = parser.parse_args(argv)
    with MetadataServer(arguments.port, arguments.project, arguments.host) as server:
        # `shutdown` waits for `serve_forever`, which runs in the thread that the signal interrupts.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        print(f"rejeu: metadata server is serving on 127.0.0.1:{server.server_port}", file=sys.stderr)
        server.serve_forever(poll_interval=0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
