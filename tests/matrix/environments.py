"""What the resolver says of a package set, and an environment made of it: Rejeu with its extra, and what tests need."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.paths import ROOT

UV: Final = str(Path(sys.executable).with_name("uv"))
FOLDER: Final = ROOT / ".rejeu/matrix"
TOOLS: Final = ("docker", "hypothesis", "kubernetes", "pytest", "pytest-timeout", "pytest-xdist", "python-hcl2")
"""What only tests need. Clients of Docker and Kubernetes are among it: their launchers are tried, too."""
PYTHONS: Final = ("3.11", "3.12", "3.13")


def word(constraints: Path) -> str:
    """What comes of `rejeu[airflow]` under these constraints, in the resolver's words where nothing does."""
    found = _resolve("airflow", "3.11", "--constraint", str(constraints))
    if found.returncode:
        return f"refused: {_first_line(found.stderr)}"
    added = sorted(_pins(found.stdout) - _pins(constraints.read_text()))
    return f"resolves, and adds {', '.join(added)}" if added else "resolves, nothing changed, nothing added"


def word_on(extra: str, python: str) -> str:
    """What comes of an extra on this Python, without constraints."""
    found = _resolve(extra, python)
    return f"refused: {_first_line(found.stderr)}" if found.returncode else "resolves"


def environment(version: str, constraints: Path) -> Path:
    """The interpreter of the environment for this set; it is made where it is not there, or of something else."""
    made_of = hashlib.sha256(
        b"\n".join([(ROOT / "pyproject.toml").read_bytes(), constraints.read_bytes(), repr(TOOLS).encode()])
    ).hexdigest()
    folder = FOLDER / version
    python, stamp = folder / "bin/python", folder / "made-of"
    if stamp.exists() and stamp.read_text() == made_of:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run(UV, "venv", "--quiet", "--python", sys.executable, str(folder))
    _run(
        *(UV, "pip", "install", "--quiet", "--python", str(python), "--constraint", str(constraints)),
        *("--editable", f"{ROOT}[airflow]", *TOOLS),
    )
    stamp.write_text(made_of)
    return python


def _resolve(extra: str, python: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [UV, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--extra", extra]
    command += ["--python-version", python, *more, str(ROOT / "pyproject.toml")]
    return subprocess.run(command, env=_environ(), capture_output=True, text=True, check=False, timeout=600)


def _run(*command: str) -> None:
    subprocess.run(command, env=_environ(), check=True, timeout=1800)


def _environ() -> dict[str, str]:
    return {**os.environ, "VIRTUAL_ENV": sys.prefix}


def _pins(text: str) -> set[str]:
    return set(re.findall(r"^[a-z0-9][\w.-]*==[^\s;\\]+", text, re.MULTILINE))


def _first_line(text: str) -> str:
    return " ".join(text.split())[:300]
