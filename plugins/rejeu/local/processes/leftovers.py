"""Finding and ending processes by the mark in their environment; nothing here knows what the processes are."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import psutil

from rejeu.errors import StackError

MARK: Final = "REJEU_STACK"
"""The environment variable that every process of a stack carries, and whatever those start in turn; no client does."""

KILL_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.02
_ROUNDS: Final = 20


def marked(stack: str) -> list[psutil.Process]:
    """Every living process with this stack's mark, but for the caller and its ancestors."""
    caller = psutil.Process()
    spared = {caller.pid, *(parent.pid for parent in caller.parents())}
    return [each for each in psutil.process_iter() if each.pid not in spared and _mark_of(each) == stack]


def family(pid: int) -> list[psutil.Process]:
    """The process and all its descendants; empty if it is gone."""
    with suppress(psutil.NoSuchProcess):
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    return []


def end(processes: Iterable[psutil.Process], patience: float) -> None:
    """SIGTERM, and SIGKILL for those that are still there after so many seconds; returns when they have ended."""
    ending = list(processes)
    for process in ending:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    stubborn = await_end(ending, patience)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    await_end(stubborn, KILL_SECONDS)


def await_end(processes: Iterable[psutil.Process], patience: float) -> list[psutil.Process]:
    """Wait so many seconds for the processes to end; those that live on."""
    deadline = time.monotonic() + patience
    living = list(processes)
    while (living := [process for process in living if _lives(process)]) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return living


def end_leftovers(stack: str, patience: float) -> None:
    """End every process of the stack, and what they start while they end. Raises StackError if one cannot be ended.

    Only a second empty look is believed: a process may fork and end while the first one is going on.
    """
    empty = 0
    for _ in range(_ROUNDS):
        remaining = marked(stack)
        end(remaining, patience)
        empty = 0 if remaining else empty + 1
        if empty == 2:
            return
    pids = ", ".join(str(process.pid) for process in marked(stack))
    raise StackError(f"processes {pids} of {stack} outlive SIGKILL: none may be left; see `ps -o stat,cmd -p {pids}`")


def _lives(process: psutil.Process) -> bool:
    """A zombie has ended, though whoever inherited it may not have noticed; `psutil.wait_procs` would wait for that."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _mark_of(process: psutil.Process) -> str | None:
    try:
        mark: str | None = process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None
    return mark
