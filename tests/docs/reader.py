"""Somebody who does literally what a page says: writes its files, and types its blocks of shell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.docs.pages import continuations_of, files_of, insertions_of, shell_blocks
from tests.paths import ROOT

SHARED: Final = ("Makefile", "pyproject.toml", "requirements.lock", ".venv", "README.md", "beam_jobs", "spark_jobs")
"""What a reader's folder has in common with the checkout; the pages write nothing there."""
NOT_COPIED: Final = shutil.ignore_patterns("__pycache__")
PATIENCE_SECONDS: Final = 1400
"""For a page, on a machine that does much else."""


class Reader:
    """Has a folder that looks like a checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in SHARED:
            (folder / name).symlink_to(ROOT / name)
        for name in ("dags", "plugins"):
            shutil.copytree(ROOT / name, folder / name, ignore=NOT_COPIED)

    def write(self, page: Path) -> None:
        """Write the page's files, and what it puts into files that are there."""
        for path, text in files_of(page).items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text, encoding="utf-8")
        for name, path, text in insertions_of(page):
            file = self.folder / path
            before, found, after = file.read_text(encoding="utf-8").partition(f"\n{name}: ")
            assert found, f"{path} has no {name}"
            opening, line, rest = after.partition("\n")
            file.write_text(f"{before}{found}{opening}{line}{text}{rest}", encoding="utf-8")
        for line, path, text in continuations_of(page):
            file = self.folder / path
            once = re.compile(rf"(^ *{re.escape(line)}\n)", re.MULTILINE)
            before, found, after = once.split(file.read_text(encoding="utf-8"))
            file.write_text(f"{before}{found}{text}{after}", encoding="utf-8")

    def type(self, blocks: Iterable[str], **variables: str) -> str:
        """Run the blocks in one shell, up to the first command that fails; what they print."""
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("REJEU_", "AIRFLOW"))}
        inherited.pop("PUBSUB_EMULATOR_HOST", None)
        script = "set -eo pipefail\n" + "\n".join(blocks)
        typed = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=inherited | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert typed.returncode == 0, f"{typed.stdout}\n--- of ---\n{script}"
        return typed.stdout

    def follow(self, page: Path, *first: str, **variables: str) -> str:
        """Do all that the page says; `first` is what its reader has typed before."""
        self.write(page)
        return self.type([*first, *shell_blocks(page)], **variables)
