"""`python -m docs.generate [FOLDER]`: writes every generated page, by default into `docs/reference`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from docs.generate import commands, dags, environment, exit_codes, message, spec_fields

REFERENCE: Final = Path(__file__).parents[1] / "reference"
PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "spec.md": spec_fields.render,
    "commands.md": commands.render,
    "environment.md": environment.render,
    "exit-codes.md": exit_codes.render,
    "dags.md": dags.render,
    "message.md": message.render,
}


def main(argv: list[str]) -> None:
    """Write each page."""
    folder = Path(argv[0]) if argv else REFERENCE
    for name, render in PAGES.items():
        (folder / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
