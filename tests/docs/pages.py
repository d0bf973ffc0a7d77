"""The pages that people read, and what can be taken out of them: links, headings, paths, blocks of shell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [
    *sorted(ROOT.glob("*.md")),
    *sorted(page for page in (ROOT / "docs").rglob("*.md")),
]
FENCE: Final = re.compile(r"^ *(```+|~~~+|:::+)")
LINK: Final = re.compile(r"\]\(([^()\s]*)\)")
CODE: Final = re.compile(r"`([^`\n]+)`")
PATH: Final = re.compile(r"^(?:plugins|rejeu|beam_jobs|spark_jobs|dags|tests|docs|docker|infra|benchmarks)/[\w./*-]*$")
FILE: Final = re.compile(r"^```\w+\n(?:#|--) file: (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INTO: Final = re.compile(r"^```\w+\n# into: (\w+) of (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
AFTER: Final = re.compile(r"^```\w+\n# after `([^`\n]+)` of (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL: Final = re.compile(r"^( *)```sh\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
NEEDS: Final = ("# needs an account", "# needs Docker")
"""How a block begins that needs what no test has."""
MADE_UP: Final = re.compile(r"\b(machines|orders|ethereum|foreign_clicks|my_\w+|NAME|STREAM)\b")
"""Names that pages invent for what the reader will write."""


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    kept, fence = [], ""
    for line in page.read_text(encoding="utf-8").splitlines():
        found = FENCE.match(line)
        if found and not fence:
            fence = found[1]
        elif fence and line.strip() == fence:
            fence = ""
        elif not fence:
            kept.append(line)
    return "\n".join(kept)


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Every link to a file of ours: the file as written, and the anchor."""
    for target in LINK.findall(CODE.sub("", prose(page))):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            yield file, anchor


@cache
def headings(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ +(.*)$", prose(page), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)


def named_paths(page: Path) -> Iterator[str]:
    """Every path of the repository that the page names, as a pattern; `rejeu/…` lies in `plugins/`."""
    for text in CODE.findall(prose(page)):
        if PATH.match(text) and not MADE_UP.search(text):
            yield (f"plugins/{text}" if text.startswith("rejeu/") else text).rstrip("/")


def shell_blocks(page: Path) -> list[str]:
    """The blocks of shell that a reader can type anywhere, in their order."""
    blocks = [dedent(body) for _, body in SHELL.findall(page.read_text(encoding="utf-8"))]
    return [block for block in blocks if not block.startswith(NEEDS)]


def files_of(page: Path) -> dict[str, str]:
    """The blocks that say in their first line which file they are: the file's path, and the text."""
    return dict(FILE.findall(page.read_text(encoding="utf-8")))


def continuations_of(page: Path) -> list[tuple[str, str, str]]:
    """The blocks that say in their first line after which one they go: that line, its file's path, and the text."""
    return AFTER.findall(page.read_text(encoding="utf-8"))


def insertions_of(page: Path) -> list[tuple[str, str, str]]:
    """The blocks that say in their first line where they go: the name of a table, its file's path, and the text."""
    return INTO.findall(page.read_text(encoding="utf-8"))


ADDITIONS: Final = [page for page in sorted((ROOT / "docs" / "how-to").glob("add-a-*.md")) if shell_blocks(page)]
"""The pages that add something to Rejeu: their files are written, and their own tests run."""
