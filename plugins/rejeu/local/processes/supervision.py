"""The one process supervisor of a stack: supervisord, its configuration and its remote calls over a Unix socket."""

from __future__ import annotations

import http.client
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from rejeu.errors import StackError
from rejeu.local.processes.leftovers import await_end, family

POLL_SECONDS: Final = 0.05
CALL_SECONDS: Final = 3.0
"""A call may take this long: a supervisord that hangs must not keep `down` from ending everything."""
SOCKET_PATH_MAX: Final = 100
"""Unix sockets take 104 bytes on macOS, 108 on Linux, and supervisord first binds to a longer, temporary name."""

_SILENCE: Final = (OSError, http.client.HTTPException, xmlrpc.client.Error)
"""How a supervisord that is gone, is going or hangs answers a call."""

_LIVING: Final = frozenset({"STARTING", "RUNNING", "BACKOFF", "STOPPING"})


@dataclass(frozen=True)
class Program:
    """One program to keep alive; `once` is one that ends by itself and stays ended."""

    name: str
    command: Sequence[str]
    group: str
    stop_seconds: int
    once: bool = False
    stop_signal: str = "TERM"


@dataclass(frozen=True)
class Condition:
    """What supervisord says of a program: RUNNING, STARTING, BACKOFF, EXITED, FATAL, STOPPING or STOPPED."""

    group: str
    state: str
    pid: int | None
    exit_status: int


class Supervisor:
    """supervisord for one home: `folder` holds its configuration, its log and its socket."""

    def __init__(self, folder: Path, logs: Path, stack: str) -> None:
        self._folder = folder
        self._logs = logs
        here = folder / "s.sock"
        short = len(str(here)) < SOCKET_PATH_MAX - len(".12345678")
        self._socket = here if short else Path(tempfile.gettempdir()) / f"{stack}.sock"

    def log_file(self, name: str) -> Path:
        """Where a program's output goes."""
        return self._logs / f"{name}.log"

    def start(self, programs: Sequence[Program], directory: Path, environment: Mapping[str, str]) -> None:
        """Start supervisord, and none of the programs yet, in a session of its own: no terminal's Ctrl-C gets there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        configuration = self._folder / "supervisord.conf"
        configuration.write_text(self._configuration(programs, directory), encoding="utf-8")
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)]
        ended = subprocess.run(
            command,
            check=False,
            env=dict(environment),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if ended.returncode:
            raise StackError(f"supervisord ended with {ended.returncode}: {ended.stdout.strip()} (see {configuration})")

    def launch(self, group: str, name: str) -> None:
        """Start one program; does not wait until it runs."""
        with suppress(*_SILENCE):  # whatever went wrong, its condition says so
            self._call().startProcess(f"{group}:{name}", False)

    def halt(self, group: str, name: str) -> None:
        """Stop one program until it is launched again; does not wait until it has ended."""
        with suppress(*_SILENCE):
            self._call().stopProcess(f"{group}:{name}", False)

    def conditions(self) -> dict[str, Condition]:
        """The condition of every program; empty where no supervisord answers."""
        try:
            found: Any = self._call().getAllProcessInfo()
        except _SILENCE:
            return {}
        return {
            each["name"]: Condition(each["group"], each["statename"], each["pid"] or None, each["exitstatus"])
            for each in found
        }

    def stop(self, group: str) -> None:
        """Stop all programs of a group and wait until they have ended; nothing where no supervisord answers.

        Asks again and again: a call also makes supervisord look after its programs, which it else does once a second.
        """
        with suppress(*_SILENCE):
            self._call().stopProcessGroup(group, False)
        deadline = time.monotonic() + CALL_SECONDS
        while any(each.group == group and each.state in _LIVING for each in self.conditions().values()):
            if time.monotonic() > deadline:
                return
            time.sleep(POLL_SECONDS)

    def shutdown(self) -> None:
        """End supervisord and whatever it still runs; returns when it is gone, or hangs for too long."""
        running = self.family()
        with suppress(*_SILENCE):
            self._call().shutdown()
        await_end(running, CALL_SECONDS)

    def family(self) -> list[psutil.Process]:
        """supervisord and all that descends from it; empty where it does not answer."""
        try:
            pid: Any = self._call().getPID()
        except _SILENCE:
            return []
        return family(pid)

    def _call(self) -> Any:
        proxy = xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=_UnixTransport(self._socket))
        return proxy.supervisor

    def _configuration(self, programs: Sequence[Program], directory: Path) -> str:
        groups: dict[str, list[str]] = {}
        for program in programs:
            groups.setdefault(program.group, []).append(program.name)
        return "\n".join(
            [
                *_section("unix_http_server", {"file": self._socket, "chmod": "0700"}),
                *_section(
                    "supervisord",
                    {
                        "logfile": self.log_file("supervisord"),
                        "pidfile": self._folder / "supervisord.pid",
                        "childlogdir": self._logs,
                    },
                ),
                *_section(
                    "rpcinterface:supervisor",
                    {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
                ),
                *(line for program in programs for line in self._program(program, directory)),
                *(
                    line
                    for group, names in groups.items()
                    for line in _section(f"group:{group}", {"programs": ",".join(names)})
                ),
            ]
        )

    def _program(self, program: Program, directory: Path) -> Iterable[str]:
        return _section(
            f"program:{program.name}",
            {
                "command": shlex.join(program.command),
                "directory": directory,
                "autostart": "false",
                "autorestart": "false" if program.once else "true",
                "startsecs": 0 if program.once else 1,
                "startretries": 100,
                "stopsignal": program.stop_signal,
                "stopwaitsecs": program.stop_seconds,
                "stopasgroup": "true",
                "killasgroup": "true",
                "redirect_stderr": "true",
                "stdout_logfile": self.log_file(program.name),
                "stdout_logfile_maxbytes": "10MB",
                "stdout_logfile_backups": 1,
            },
        )


def _section(name: str, values: Mapping[str, object]) -> list[str]:
    """One section; supervisord would expand `%` in values as a format."""
    return [f"[{name}]", *(f"{key} = {str(value).replace('%', '%%')}" for key, value in values.items()), ""]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        return _UnixConnection(self._path)
