"""Reads the log files of the local stack's parts; it writes none."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

FIRST_LINES = 10
POLL_SECONDS = 0.25


def last_lines(file: Path, count: int) -> list[str]:
    """The file's last lines; none where there is no file."""
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            return [line.rstrip("\n") for line in deque(lines, maxlen=count)]
    except FileNotFoundError:
        return []


def tail(files: Mapping[str, Path], *, follow: bool) -> Iterator[str]:
    """The last lines of each file, then what is added, each with the part's name in front."""
    width = max(map(len, files), default=0)
    places = {name: _size(file) for name, file in files.items()}
    for name, file in files.items():
        yield from (f"{name:<{width}} | {line}" for line in last_lines(file, FIRST_LINES))
    while follow:
        time.sleep(POLL_SECONDS)
        for name, file in files.items():
            lines, places[name] = _added(file, places[name])
            yield from (f"{name:<{width}} | {line}" for line in lines)


def _added(file: Path, place: int) -> tuple[list[str], int]:
    """The whole lines after this place, and where the next ones begin; a file that shrank was rotated."""
    size = _size(file)
    place = place if size >= place else 0
    if size == place:
        return [], place
    with file.open("rb") as log:
        log.seek(place)
        whole, newline, _ = log.read(size - place).rpartition(b"\n")
    added = whole.decode(errors="replace").split("\n") if newline else []
    return added, place + len(whole) + len(newline)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
