"""`python -m rejeu.replay`: read the arguments, run, and end with the exit code that `rejeu.errors` documents."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from rejeu.errors import RejeuError
from rejeu.replay.engine import Replay
from rejeu.request import ReplayRequest, Shard

SWITCH_SECONDS: Final = 0.0005


def sharded(request: ReplayRequest, environment: Mapping[str, str]) -> ReplayRequest:
    """The request for this task's shard, where it is one of several tasks of a Cloud Run job."""
    count = int(environment.get("CLOUD_RUN_TASK_COUNT", 1))
    if request.shard is not None or count == 1:
        return request
    return request.model_copy(update={"shard": Shard(int(environment["CLOUD_RUN_TASK_INDEX"]), count)})


def main(argv: Sequence[str] | None = None) -> int:
    """Run a replay; SIGTERM and SIGINT let it finish what is under way and save the cursor.

    SIGUSR1 has it hold its place and wait, SIGUSR2 go on.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        request = ReplayRequest.from_argv(sys.argv[1:] if argv is None else argv)
        replay = Replay(sharded(request, os.environ))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: replay.stop())
        signal.signal(signal.SIGUSR1, lambda *_: replay.pause(True))
        signal.signal(signal.SIGUSR2, lambda *_: replay.pause(False))
        # A row that is due must not wait until another thread has had its five milliseconds of Python.
        sys.setswitchinterval(SWITCH_SECONDS)
        replay.run()
    except RejeuError as error:
        print(f"rejeu: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
