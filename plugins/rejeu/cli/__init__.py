"""The `rejeu` command: one module a group of commands, each thin over the rooms that do the work."""

from rejeu.cli.program import main, parser

__all__ = ["main", "parser"]
