"""The page about exit codes, from the tree of errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from docs.generate.markdown import page, table
from rejeu.errors import ExitCode, exit_codes
from rejeu.jobs.flags import Request
from rejeu.jobs.request import ReconcileRequest, ReplayRequest

INTRODUCTION: Final = """
Every program of Rejeu ends with one of these: the `rejeu` command, the replay in its container, the jobs. A program
whose text says more than its code prints one line on standard error: what is wrong, the rule, and what to do.
"""
OTHERS: Final = (
    ExitCode(0, "", "All is well: done, or stopped on request with the cursor saved."),
    ExitCode(1, "any other", "Something that nobody foresaw: a traceback says where."),
    ExitCode(130, "", "Ctrl-C."),
)
PROGRAMS: Final[tuple[type[Request], ...]] = (ReplayRequest, ReconcileRequest)


def render() -> str:
    """The page."""
    everything = sorted([*OTHERS, *exit_codes()], key=lambda each: each.code)
    programs = (f"## `{each.program}`\n\n{_table(each.exit_codes())}" for each in PROGRAMS)
    return page("Exit codes", INTRODUCTION, _table(everything), *programs)


def _table(codes: Iterable[ExitCode]) -> str:
    rows = (
        (str(each.code), f"`{each.error}`" if each.error.isidentifier() else each.error, each.meaning) for each in codes
    )
    return table(("code", "error", "what it means"), rows)
