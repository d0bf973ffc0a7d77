"""Where commands write: the terminal, its errors, and documents as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line as it is, square brackets and all."""
    console.print(text, markup=False, soft_wrap=True)


def write_document(document: dict[str, Any], file: Path | None) -> int:
    """Write a document as JSON to a file, or print it."""
    text = json.dumps(document, indent=2) + "\n"
    if file:
        file.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 0
