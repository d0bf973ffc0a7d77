"""The page about exit codes, from the tree of errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from docs.generate.markdown import page, table
from rejeu.errors import RejeuError

INTRODUCTION: Final = """
Every program of Rejeu ends with one of these: the `rejeu` command, the replay in its container, the jobs. A program
whose text says more than its code prints one line on standard error: what is wrong, the rule, and what to do.
"""
OTHERS: Final = (
    ("0", "", "All is well: done, or stopped on request with the cursor saved."),
    ("1", "any other", "Something that nobody foresaw: a traceback says where."),
    ("130", "", "Ctrl-C."),
)


def render() -> str:
    """The page."""
    rows = [*OTHERS, *((str(each.exit_code), f"`{each.__name__}`", _first_line(each)) for each in _tree(RejeuError))]
    return page("Exit codes", INTRODUCTION, table(("code", "error", "what it means"), sorted(rows, key=_by_code)))


def _tree(kind: type[RejeuError]) -> Iterator[type[RejeuError]]:
    for below in kind.__subclasses__():
        if below.__module__ == RejeuError.__module__:
            yield below
        yield from _tree(below)


def _by_code(row: Sequence[str]) -> int:
    return int(row[0])


def _first_line(kind: type[RejeuError]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]
