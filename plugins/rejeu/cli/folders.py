"""Where specs and DAG files lie: the user's own folder, and the examples that come with Rejeu."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import rejeu

HERE: Final = Path("dags")
DAG_FILE: Final = "streams.py"
"""Makes DAGs of the specs in `streams/` beside it."""


def examples() -> Path:
    """The dags folder of the five example streams: the wheel's own copy, or the checkout's."""
    package = Path(rejeu.__file__).parent
    packed = package / "examples"
    return packed if packed.is_dir() else package.parents[1] / "dags"


def dags_folder(given: Path | None = None) -> Path:
    """What the command line says, or `REJEU_DAGS`, or `dags` where we stand, or a checkout's; it may not exist."""
    named = given or os.environ.get("REJEU_DAGS")
    if named:
        return Path(named)
    if (HERE / "streams").is_dir() or _is_packed():
        return HERE
    return examples()


def add_dag_file(dags: Path) -> Path | None:
    """Put the file that makes DAGs of specs into the folder, where it has none; returns its path if it was made."""
    file = dags / DAG_FILE
    if file.exists():
        return None
    shutil.copyfile(examples() / DAG_FILE, file)
    return file


def _is_packed() -> bool:
    return examples().parent == Path(rejeu.__file__).parent
