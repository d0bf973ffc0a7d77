"""A door in front of a server, which a test can shut; no fixture and no test."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

from rejeu.local.processes.ports import free_port


class Gate:
    """Passes on what comes in; shut, it breaks every connection and takes none, while the server keeps its state."""

    def __init__(self, behind: str) -> None:
        host, port = behind.split(":")
        self._behind = (host, int(port))
        self._port = free_port()
        self._sockets: list[socket.socket] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.shut()

    def open(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port))
        self._sockets = [listener]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        for each in list(self._sockets):
            with suppress(OSError):  # the other end may have gone first
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                outside, _ = listener.accept()
                inside = socket.create_connection(self._behind)
                self._sockets += [outside, inside]
                for source, target in ((outside, inside), (inside, outside)):
                    threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
