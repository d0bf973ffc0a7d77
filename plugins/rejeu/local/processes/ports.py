"""Ports for servers of this machine: nobody listens on them, and the kernel gives them to no outgoing connection."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from typing import Final

HOST: Final = "127.0.0.1"
PORTS: Final = range(20_000, 32_768)
"""Below the ports that Linux and macOS give to outgoing connections, which could take one before its server starts."""


def free_ports(seed: int) -> Iterator[int]:
    """The same ones each time for the same seed, as far as they can be had."""
    first = seed % len(PORTS)
    return (port for port in (*PORTS[first:], *PORTS[:first]) if is_free(port))


def free_port() -> int:
    """Any."""
    return next(free_ports(secrets.randbelow(len(PORTS))))


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: a connection that has just ended there is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
