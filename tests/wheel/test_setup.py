"""What `make setup` installs: the lock, which names all, so that nothing is fetched or built to ask what it needs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT


def test_nothing_is_fetched_to_ask_what_it_needs_and_what_is_missing_is_said() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^\$\(READY\):.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    assert recipe is not None
    *_, check, _ = lines = recipe[1].splitlines()
    installs = [line for line in lines if "$(UV) install" in line]
    assert len(installs) == 2
    assert all("--no-deps" in line for line in installs)
    assert "$(UV) check" in check


def test_the_lock_names_all_that_is_needed() -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    checked = subprocess.run(
        [uv, "pip", "check", "--python", sys.executable], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
