"""Frozen models whose fields are flags: one parser serves the CLI, the DAGs and the containers."""

from __future__ import annotations

import argparse
import re
import types
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, NoReturn, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from rejeu.errors import ExitCode, RejeuError, RequestError, brief, exit_code, explain, told
from rejeu.spec.shapes import HALF
from rejeu.timeline import format_instant

FLAG: Final = re.compile(r"--[a-z][a-z0-9-]*(=.*)?", re.DOTALL)


class FlagParser(argparse.ArgumentParser):
    """A parser whose errors are RequestError: whoever reads a stored request must not end with it.

    A flag is never written short: what is the beginning of a flag today may be another flag tomorrow.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raises RequestError."""
        raise RequestError(f"{brief(message)}: see `{self.prog} --help` for every flag")


class Request(BaseModel):
    """A frozen model whose fields are flags: `from_argv(to_argv())` is the same request."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    program: ClassVar[str]
    module: ClassVar[str]
    ready_text: ClassVar[str | None] = None
    outcomes: ClassVar[Mapping[int, str]] = {0: "All is done."}
    """The exit codes that stand for no error, and what each means."""
    errors: ClassVar[tuple[type[RejeuError], ...]] = (RequestError,)
    """What can end the program."""

    _unknown: tuple[str, ...] = PrivateAttr(())
    """Flags of a stored request that only another version of Rejeu knows."""

    def to_argv(self) -> list[str]:
        """The flags of this request; fields at their default are left out."""
        argv: list[str] = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value == field.get_default(call_default_factory=True):
                continue
            # Flag and value are one word, because a value may begin with a dash.
            argv.append(flag_of(name) if value is True else f"{flag_of(name)}={_to_text(value)}")
        return [*argv, *self._unknown]

    @classmethod
    def parser(cls, *, add_help: bool = True) -> argparse.ArgumentParser:
        """A parser with one flag for each field; it raises RequestError for a wrong one."""
        parser = FlagParser(
            prog=cls.program,
            description=cls.__doc__,
            epilog="\n".join(["exit codes:", *(f"  {each.code}  {each.meaning}" for each in cls.exit_codes())]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=add_help,
        )
        for name, field in cls.model_fields.items():
            kind = field.annotation
            help_text = (field.description or "").replace("%", "%%")
            if kind is bool:
                parser.add_argument(flag_of(name), dest=name, action="store_true", default=None, help=help_text)
            else:
                metavar = flag_of(name)[2:].upper().replace("-", "_")
                parser.add_argument(
                    flag_of(name), dest=name, help=help_text, metavar=metavar, required=field.is_required()
                )
        return parser

    @classmethod
    def exit_codes(cls) -> list[ExitCode]:
        """How the program can end, by code."""
        outcomes = [ExitCode(code, "", meaning) for code, meaning in cls.outcomes.items()]
        return sorted([*outcomes, *map(exit_code, cls.errors)], key=lambda each: each.code)

    @classmethod
    def from_argv(cls, argv: Sequence[str]) -> Self:
        """Read the flags; `--help` prints them and ends the process. Raises RequestError for a wrong flag or value."""
        return cls._of_texts(cls.parser().parse_args(_texts(argv)))

    @classmethod
    def from_stored(cls, argv: Sequence[str]) -> Self:
        """Read a request that some version of Rejeu wrote down with `to_argv`.

        Flags that only another version knows are passed on as they are: it is for the job to understand them, and one
        that does not ends with RequestError and leaves the cursor where it is. Raises RequestError for anything else.
        """
        arguments, unknown = cls.parser(add_help=False).parse_known_args(_texts(argv))
        for word in unknown:
            if not FLAG.fullmatch(word):
                raise RequestError(f"{told(word)} of a stored request is no flag: it must be --name or --name=value")
        request = cls._of_texts(arguments)
        request._unknown = tuple(unknown)
        return request

    @classmethod
    def _of_texts(cls, arguments: argparse.Namespace) -> Self:
        given = {name: value for name, value in vars(arguments).items() if value is not None}
        for name, field in cls.model_fields.items():
            if name in given and _is_tuple(field.annotation):
                given[name] = tuple(part.strip() for part in given[name].split(",") if part.strip())
        return cls.of(**given)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Build the request. Raises RequestError, worded for a person, where a value is wrong."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise RequestError("; ".join(_reason(detail) for detail in error.errors())) from None


def _texts(argv: Sequence[str]) -> list[str]:
    """The words. Raises RequestError for one that no process could be started with, or nothing could write down."""
    for word in argv:
        if "\0" in word or (not word.isascii() and HALF.search(word)):
            raise RequestError(f"an argument is {told(word)}: it must be text, without NUL and halves of characters")
    return list(argv)


def flag_of(name: str) -> str:
    """The flag of a field."""
    return "--" + name.rstrip("_").replace("_", "-")


def _is_tuple(kind: Any) -> bool:
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return any(get_origin(each) is tuple for each in kinds)


def _to_text(value: object) -> str:
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return str(value)


def _reason(detail: Any) -> str:
    field = flag_of(str(detail["loc"][0])) if detail["loc"] else ""
    return f"{field}: {explain(detail)}".removeprefix(": ")
