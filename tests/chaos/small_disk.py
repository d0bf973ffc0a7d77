"""A disk of one megabyte that can be full: a tmpfs of its own, which takes root to mount."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SIZE: Final = "1m"
BLOCK_BYTES: Final = 4_096
FILLER: Final = "filler"
AGAIN_SECONDS: Final = 0.001


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount it there while the block runs. Raises OSError where this user may not."""
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "rejeu-chaos", str(folder))
    try:
        yield
    finally:
        _run("umount", "--lazy", str(folder))


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """The disk of this folder is full while the block runs: what others give back is taken, too."""
    filler, done = folder / FILLER, threading.Event()
    with filler.open("wb", buffering=0) as file:

        def fill() -> None:
            while not done.is_set():
                try:
                    file.write(bytes(BLOCK_BYTES))
                except OSError:  # there is no room for one more
                    done.wait(AGAIN_SECONDS)

        thread = threading.Thread(target=fill, name="filler", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            filler.unlink()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(
            f"{' '.join(command)}: {done.stderr.strip()}: a full disk takes a small tmpfs, and that takes root: run as "
            "root, or name the other rounds with --only"
        )
