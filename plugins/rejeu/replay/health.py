"""`python -m rejeu.replay.health`: whether this container's replay holds its stream's lease, or stands by for it.

Exit code 0 or 1. The check takes no arguments: it reads those of the container's own command.
"""

from __future__ import annotations

import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rejeu.errors import RejeuError
from rejeu.jobs.request import ReplayRequest
from rejeu.state import open_store
from rejeu.state.lease import read_state

FIRST_PROCESS: Final = Path("/proc/1/cmdline")


def trouble(request: ReplayRequest, host: str, now: datetime) -> str | None:
    """What is wrong with the request's replay on this host; None where it works, or where it has no state store."""
    if request.state is None:
        return None
    name = request.state_name
    state = read_state(open_store(request.state), name)
    if state is None or state.holder is None or state.lease_until is None:
        return f"{name}: nobody holds the lease"
    if not request.standby and not state.holder.startswith(f"{host}:"):
        return f"{name}: {state.holder} holds the lease, not this host ({host})"
    if state.lease_until <= now:
        return f"{name}: the lease ran out at {state.lease_until.isoformat()}, and was not renewed"
    return None


def main(first_process: Path = FIRST_PROCESS) -> int:
    """Check the replay that the container runs, as its first process or under an init."""
    command = first_process.read_text(encoding="utf-8").rstrip("\0").split("\0")
    if ReplayRequest.module not in command:
        print(f"{' '.join(command)!r} is no replay: run this check in a replay's container", file=sys.stderr)
        return 1
    try:
        request = ReplayRequest.from_argv(command[command.index(ReplayRequest.module) + 1 :])
        found = trouble(request, socket.gethostname(), datetime.now(UTC))
    except RejeuError as error:
        found = str(error)
    if found:
        print(found, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
