"""Ports for servers: nobody else takes them before the server is there."""

from __future__ import annotations

import socket
from itertools import islice
from pathlib import Path

import pytest

from rejeu.local.processes.ports import HOST, PORTS, free_port, free_ports, is_free

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not RANGE.exists(), reason="only Linux tells it")
def test_the_kernel_gives_none_of_them_to_an_outgoing_connection() -> None:
    first, _ = map(int, RANGE.read_text().split())
    assert PORTS[-1] < first


def test_a_port_is_free_until_somebody_listens_there() -> None:
    port = free_port()
    assert port in PORTS
    with socket.create_server((HOST, port)):
        assert not is_free(port)
        assert port not in islice(free_ports(port - PORTS[0]), 3)
    assert is_free(port)


def test_a_seed_gives_the_same_ports_each_time_whatever_its_size() -> None:
    found = [list(islice(free_ports(seed), 3)) for seed in (2**32 - 1, 2**32 - 1)]
    assert found[0] == found[1]
    assert len(set(found[0])) == 3
