"""A job for launchers' tests, run as `python -m rejeu.testing.small_job`: it does what its arguments say, in order.

`say TEXT` prints; `meet FIFO` waits until somebody reads from it; `deaf` ignores SIGTERM; `drained` answers SIGTERM
by ending well, `slow FIFO FIFO TEXT` does so once it has met at both places and printed; `wait` does nothing for ever;
`exit CODE` ends.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator


def main(words: Iterator[str]) -> None:
    """Do them all."""
    for word in words:
        if word == "say":
            print(next(words), flush=True)
        elif word == "meet":
            with open(next(words), "w", encoding="utf-8") as fifo:  # noqa: PTH123  # pathlib takes a while to import
                fifo.write(str(os.getpid()))
        elif word == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif word == "drained":
            signal.signal(signal.SIGTERM, lambda *_: (print("drained", flush=True), os._exit(0)))
        elif word == "slow":
            places = iter(["meet", next(words), "meet", next(words), "say", next(words), "exit", "0"])
            signal.signal(signal.SIGTERM, lambda *_, left=places: main(left))
        elif word == "wait":
            while True:
                signal.pause()
        elif word == "exit":
            sys.exit(int(next(words)))


if __name__ == "__main__":
    main(iter(sys.argv[1:]))
