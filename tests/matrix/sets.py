"""The package sets that Rejeu is held against, by their version of Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.paths import ROOT

LOCK: Final = ROOT / "requirements.lock"
"""The set of laptop, CI and images, in .venv."""
_MANAGED: Final = ROOT / "tests/matrix/managed"
SETS: Final[dict[str, Path]] = {
    file.stem.removeprefix("airflow-"): file for file in sorted(_MANAGED.glob("airflow-*.txt"))
}
"""Those of managed Airflow, each as a file of constraints."""
