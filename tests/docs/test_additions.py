"""The pages that say how to add something, followed literally: their files are written, their own tests run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ADDITIONS, files_of
from tests.docs.reader import Reader

ITSELF = '    ColumnType(name="GEOGRAPHY", check=_is_text, rule="text", json="strings"),\n'
"""What the page about column types adds, as if it were not there."""


@pytest.mark.parametrize("page", ADDITIONS, ids=lambda page: page.stem)
def test_what_a_page_adds_works(page: Path, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    types = tmp_path / "plugins" / "rejeu" / "bigquery" / "types.py"
    text = types.read_text(encoding="utf-8")
    assert ITSELF in text
    types.write_text(text.replace(ITSELF, ""), encoding="utf-8")
    reader.follow(page, PYTHONPATH="plugins:.", PYTEST_ADDOPTS="-p no:cacheprovider --rootdir=.")
    # `make quick` and `make test` lint what stands in the checkout.
    written = " ".join(path for path in files_of(page) if path.endswith(".py"))
    reader.type([f".venv/bin/ruff check {written}", f".venv/bin/ruff format --check {written}"])
