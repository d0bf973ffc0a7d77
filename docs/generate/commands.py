"""The page about commands, from the parsers themselves."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from docs.generate.markdown import page, table
from rejeu.cli import parser
from rejeu.jobs.request import ReplayRequest

ROOT: Final = Path(__file__).parents[2]
INTRODUCTION: Final = """
`rejeu` is `.venv/bin/rejeu` in a checkout. Every command has `--help`. What a command ends with stands in
[Exit codes](exit-codes.md).
"""
MAKE: Final = """
## `make`

Every developer's job has one target; `make help` lists them.
"""
TARGET: Final = re.compile(r"^([a-z-]+):.*## (.*)$", re.MULTILINE)


def render() -> str:
    """The page: `make`, then each command."""
    targets = [(f"`make {name}`", text) for name, text in TARGET.findall((ROOT / "Makefile").read_text("utf-8"))]
    make = MAKE + "\n" + table(("target", "what it does"), targets)
    return page("Commands", INTRODUCTION, make, *(_describe(name, each) for name, each in _commands()))


def _commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each command's full name and parser; the replay's is made of its request's fields."""
    for action in parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                yield f"rejeu {name}", ReplayRequest.parser() if name == "replay" else each


def _describe(name: str, command: argparse.ArgumentParser) -> str:
    flags = [_argument(each) for each in command._actions if not isinstance(each, argparse._HelpAction)]
    words = (command.description or "").strip()
    head = f"## `{name}`\n\n{words}"
    return f"{head}\n\n{table(('argument', 'what it says'), flags)}" if flags else head


def _argument(action: argparse.Action) -> tuple[str, str]:
    value = action.metavar if isinstance(action.metavar, str) else ""
    if not action.option_strings:
        optional = action.nargs in ("?", "*")
        return f"`[{value}]`" if optional else f"`{value}`", _help(action)
    shown = ", ".join(f"`{' '.join([option, value]).strip()}`" for option in action.option_strings)
    return f"**{shown}**" if action.required else shown, _help(action)


def _help(action: argparse.Action) -> str:
    text = (action.help or "").replace("%%", "%")
    return text + (" (must be given)" if action.required and action.option_strings else "")
