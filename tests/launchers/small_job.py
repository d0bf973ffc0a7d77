"""A job for the launchers' tests, run as `python -m small_job`: it does what its arguments say, in their order.

`say TEXT` prints; `meet FIFO` waits until somebody reads from it; `deaf` ignores SIGTERM; `drained` answers SIGTERM
by ending well; `wait` does nothing for ever; `exit CODE` ends.
"""

import os
import signal
import sys
from pathlib import Path

words = iter(sys.argv[1:])
for word in words:
    if word == "say":
        print(next(words), flush=True)
    elif word == "meet":
        Path(next(words)).write_text(str(os.getpid()), encoding="utf-8")
    elif word == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif word == "drained":
        signal.signal(signal.SIGTERM, lambda *_: (print("drained", flush=True), os._exit(0)))
    elif word == "wait":
        while True:
            signal.pause()
    elif word == "exit":
        sys.exit(int(next(words)))
