"""Whether a part of the local stack does its work, asked over its own wire; a part that does not answer is not well."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Any

ANSWER_SECONDS = 2.0
HANDSHAKE_SECONDS = 0.5

Check = Callable[[], bool]


def answers_http(address: str, path: str) -> Check:
    """The server says 200 to a GET."""
    return lambda: _get(address, path) is not None


def answers_grpc(address: str) -> Check:
    """The server shakes hands as gRPC does; a listening socket alone would not."""

    def check() -> bool:
        import grpc  # 0.2 s, which `rejeu status` need not pay

        # A proxy in the environment must not be asked for this machine.
        with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=HANDSHAKE_SECONDS)
            except grpc.FutureTimeoutError:
                return False
        return True

    return check


def answers_postgres(url: str) -> Check:
    """The server lets its user in, to the database that every server has; `url` is SQLAlchemy's, of any database."""

    def check() -> bool:
        import psycopg2  # neither `rejeu status` nor an image needs it

        server = url.replace("postgresql+psycopg2://", "postgresql://").rpartition("/")[0]
        try:
            psycopg2.connect(f"{server}/postgres", connect_timeout=int(ANSWER_SECONDS)).close()
        except psycopg2.OperationalError:
            return False
        return True

    return check


def beats(address: str, component: str, since: datetime) -> Check:
    """Airflow calls the component healthy, by a heartbeat of this start and not of the one before."""

    def check() -> bool:
        body = _get(address, "/api/v2/monitor/health")
        if body is None:
            return False
        health: dict[str, Any] = json.loads(body)[component]
        beat = health[f"latest_{component}_heartbeat"]
        return health["status"] == "healthy" and datetime.fromisoformat(beat) >= since

    return check


def _get(address: str, path: str) -> bytes | None:
    with closing(http.client.HTTPConnection(address, timeout=ANSWER_SECONDS)) as connection:
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return None
    return body if response.status == http.client.OK else None
