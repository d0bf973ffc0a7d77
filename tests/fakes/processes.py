"""Processes of this machine that stand for containers in the fake servers: real signals, exit codes and output."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class Contained:
    """A process that has no environment but its own, as in a container; `python` is the tests' own."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, ended: Callable[[], None]
    ) -> None:
        self.log = log
        self._ended = ended
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                list(command),
                env={"PATH": str(Path(sys.executable).parent), "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._reaper = threading.Thread(target=self._reap, daemon=True)
        self._reaper.start()

    @property
    def exit_code(self) -> int | None:
        """As a container tells it: 128 and the signal's number where a signal ended it; None while it runs."""
        code = self._process.returncode
        return 128 - code if code is not None and code < 0 else code

    def terminate(self, grace: float) -> None:
        """Ask it to end, and kill it after so many seconds; return once it has ended."""
        self._process.terminate()
        self._reaper.join(grace)
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._reaper.join()

    def wait(self, seconds: float | None = None) -> None:
        """Return once it has ended and whoever runs it knows."""
        self._reaper.join(seconds)

    def said(self) -> bytes:
        return self.log.read_bytes()

    def _reap(self) -> None:
        self._process.wait()
        self._ended()
