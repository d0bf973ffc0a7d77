"""`python -m rejeu.replay`: read the arguments, run, and end with the exit code that `rejeu.errors` documents."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from typing import Final

from rejeu.errors import RejeuError
from rejeu.jobs.request import ReplayRequest, Shard
from rejeu.registry import OF_OTHERS

SWITCH_SECONDS: Final = 0.0005


class WithoutPandas(MetaPathFinder):
    """Keeps Arrow from importing pandas, which no replay needs: a quarter of the time to a relaunch's first row.

    Those of others may need it: it is there once one of them is asked for.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Raises ModuleNotFoundError for pandas, as if it were not installed; other modules are found as usual."""
        if fullname == "pandas" and not OF_OTHERS:
            raise ModuleNotFoundError("a replay needs no pandas", name=fullname)


def sharded(request: ReplayRequest, environment: Mapping[str, str]) -> ReplayRequest:
    """The request for this task's shard, if it is one of several tasks of a Cloud Run job."""
    count = int(environment.get("CLOUD_RUN_TASK_COUNT", 1))
    if request.shard is not None or count == 1:
        return request
    return request.model_copy(update={"shard": Shard(int(environment["CLOUD_RUN_TASK_INDEX"]), count)})


def main(argv: Sequence[str] | None = None) -> int:
    """Run a replay. On SIGTERM or SIGINT it finishes what is under way, saves the cursor and ends.

    SIGUSR1 pauses it, SIGUSR2 lets it go on.
    """
    from rejeu.replay.engine import Replay

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        request = ReplayRequest.from_argv(sys.argv[1:] if argv is None else argv)
        replay = Replay(sharded(request, os.environ))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: replay.stop())
        signal.signal(signal.SIGUSR1, lambda *_: replay.pause(True))
        signal.signal(signal.SIGUSR2, lambda *_: replay.pause(False))
        # By default a thread may keep Python for five milliseconds: a row that is due must not wait so long.
        sys.setswitchinterval(SWITCH_SECONDS)
        replay.run()
    except RejeuError as error:
        print(f"rejeu: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.meta_path.insert(0, WithoutPandas())
    sys.exit(main())
