"""Readers type what the pages say: the blocks of the tutorial and the how-to pages run on one stack, page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ADDITIONS, PAGES, shell_blocks
from tests.docs.reader import Reader
from tests.paths import ROOT

pytestmark = [pytest.mark.emulated, pytest.mark.timeout(3000)]

TUTORIAL = ROOT / "docs" / "tutorial.md"
LAST = "make down\n"
"""The tutorial ends with it; here the other pages come first."""
HOW_TO = [page for page in sorted((ROOT / "docs" / "how-to").glob("*.md")) if shell_blocks(page)]
ON_A_STACK = [page for page in HOW_TO if page not in ADDITIONS]
STEP = re.compile(r"^make (\w[\w-]*)(?: .*)?$")


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Reader, str]]:
    """A reader who has done the tutorial, but for its last line; and what it printed."""
    reader = Reader(tmp_path_factory.mktemp("reader"))
    blocks = shell_blocks(TUTORIAL)
    assert blocks[-1] == LAST
    try:
        yield reader, reader.type(blocks[:-1])
    finally:
        reader.type([LAST])


def test_the_tutorial_ends_as_it_says(tutorial: tuple[Reader, str]) -> None:
    assert "2400 orders, 2400 different ones" in tutorial[1]


@pytest.mark.parametrize("page", ON_A_STACK, ids=lambda page: page.stem)
def test_what_a_page_says_can_be_typed(page: Path, tutorial: tuple[Reader, str]) -> None:
    tutorial[0].follow(page, 'eval "$(.venv/bin/rejeu env)"')


def test_every_block_of_every_other_page_names_targets_of_make() -> None:
    """They are in README and CONTRIBUTING; other tests run the commands behind them."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        for block in [] if page in (TUTORIAL, *HOW_TO) else shell_blocks(page):
            found = [STEP.fullmatch(line.partition("#")[0].strip()) for line in block.splitlines()]
            assert all(each and each[1] in targets for each in found), f"{page}: {block}"
