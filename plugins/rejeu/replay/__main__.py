"""`python -m rejeu.replay`: read the arguments, run, and end with the exit code that `rejeu.errors` documents."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence

from rejeu.errors import RejeuError
from rejeu.replay.engine import Replay
from rejeu.request import ReplayRequest


def main(argv: Sequence[str] | None = None) -> int:
    """Run a replay; SIGTERM and SIGINT let it finish what is under way and save the cursor."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        replay = Replay(ReplayRequest.from_argv(sys.argv[1:] if argv is None else argv))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: replay.stop())
        replay.run()
    except RejeuError as error:
        print(f"rejeu: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
