"""How a group of commands is added to the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final, NoReturn

from rich_argparse import RichHelpFormatter

from rejeu.errors import brief, told

MOST_DIGITS: Final = 9

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser that shows the usage and a wrong word, however long that is, in few words; its commands' are like it."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        super().error(brief(message))


class Commands:
    """The commands of a parser."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(self, name: str, run: Run, text: str) -> argparse.ArgumentParser:
        """A command, which `run` does; its arguments are the caller's to add."""
        made = self._commands.add_parser(name, help=text, description=text, formatter_class=RichHelpFormatter)
        made.set_defaults(run=run)
        return made


def count(text: str) -> int:
    """An argument that counts something."""
    if not (text.isdecimal() and len(text) <= MOST_DIGITS and int(text)):
        raise argparse.ArgumentTypeError(f"it is {told(text)}: it must be a whole number above 0, of few digits")
    return int(text)
