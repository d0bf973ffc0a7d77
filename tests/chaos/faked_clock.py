"""A wall clock of one process that can be stepped while it runs; time that elapses stays the machine's."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

LIBRARY: Final = "vendor/libfaketime/src/libfaketime.so.1"
"""Within the wheel of PyPI's `libfaketime`, which is Debian's program of that name: a process preloads it."""


class FakedClock:
    """What a process is started under. Raises OSError where the wheel has no library for this machine."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.step(0.0)
        self.environment: Final = {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            # A step of the wall clock changes no other clock.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, seconds: float) -> None:
        """Let it be this much ahead of the machine's clock from now on; behind it where negative."""
        partial = self._file.with_suffix(".partial")
        partial.write_text(f"{seconds:+.3f}", encoding="utf-8")
        partial.replace(self._file)


def _library() -> Path:
    found = find_spec("libfaketime")
    file = Path(found.origin).parent / LIBRARY if found is not None and found.origin else Path(LIBRARY)
    if not file.exists():
        raise OSError(f"{file} is missing: clocks can be stepped on Linux only, with the wheel `libfaketime` installed")
    return file
