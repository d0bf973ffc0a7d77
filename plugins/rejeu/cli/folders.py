"""Where specs and DAG files lie: the user's own folder, and the examples that come with Rejeu."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import rejeu

HERE: Final = Path("dags")
DAG_FILES: Final = ("streams.py", "patrol.py")
"""Make DAGs of the specs in `streams/` beside them, and the one that looks at all streams."""


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


def add_dag_files(dags: Path, say: Callable[[str], None]) -> None:
    """Put the files that make DAGs of specs into the folder, where it has none, and say which were made."""
    for file in (dags / name for name in DAG_FILES):
        if not file.exists():
            shutil.copyfile(examples() / file.name, file)
            say(f"{file}: written; it makes DAGs of the specs in {dags / 'streams'}")


def _is_packed() -> bool:
    return examples().parent == Path(rejeu.__file__).parent
