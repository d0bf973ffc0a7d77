"""The whole command line: every group's commands, and the exit code that a command ends with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich_argparse import RichHelpFormatter

import rejeu
from rejeu.cli import orphans, specs, stack, streams
from rejeu.cli.commands import Commands, Parser, Run
from rejeu.cli.console import errors
from rejeu.errors import RejeuError
from rejeu.extras import missing


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit codes are those of `rejeu.errors`."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        if given[:1] == ["replay"]:
            return streams.replay(given[1:])
        arguments = parser().parse_args(given)
        run: Run = arguments.run
        return run(arguments)
    except RejeuError as error:
        return _fail(error)
    except ModuleNotFoundError as error:
        if (told := missing(error)) is None:
            raise
        return _fail(told)
    except KeyboardInterrupt:
        errors.print("rejeu: interrupted", markup=False)
        return 130


def _fail(error: RejeuError) -> int:
    errors.print(f"rejeu: {error}", markup=False)
    return error.exit_code


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(prog="rejeu", description=rejeu.__doc__, formatter_class=RichHelpFormatter)
    top.add_argument("--version", action="version", version=f"rejeu {rejeu.__version__}")
    commands = Commands(top)
    for group in (specs, streams, orphans, stack):
        group.add_to(commands)
    return top
