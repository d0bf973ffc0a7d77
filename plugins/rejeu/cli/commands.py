"""How a group of commands is added to the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from rich_argparse import RichHelpFormatter

Run = Callable[[argparse.Namespace], int]


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
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"it is {text!r}: it must be a whole number above 0")
    return int(text)
