"""Every error that Rejeu raises on purpose, and the exit code a program of ours ends with.

    RejeuError                  1
    ├── SpecError               2
    ├── RequestError            2
    │   └── ExtensionError      2
    ├── SourceError             3
    │   └── RowError            3
    ├── PublishError            4
    ├── LeaseHeldError          5
    ├── LeaseLostError          6
    ├── StateError              7
    │   └── StateConflictError  7
    ├── LaunchError             8
    ├── NothingToRepairError    1
    ├── GivenUpError            1
    └── StackError              9

What a class means is in the first line of its docstring: `exit_codes`, the help texts and the docs are made of it.
A message says the value, the rule and the remedy, in that order.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from pydantic import ValidationError


class RejeuError(Exception):
    """The root of the tree; `exit_code` is what a program of ours ends with."""

    exit_code: ClassVar[int] = 1


class SpecError(RejeuError):
    """A stream's YAML file is wrong: which file, which field, why, and what to do."""

    exit_code = 2

    def __init__(self, file: str, field: str, reason: str, remedy: str) -> None:
        self.file, self.field, self.reason, self.remedy = map(_printable, (file, field, reason, remedy))
        where = f"{self.field}: " if self.field else ""
        # The reason first: a path may be longer than the line that a person sees.
        super().__init__(f"{where}{self.reason}. {self.remedy} ({self.file})")


class RequestError(RejeuError):
    """An argument is wrong, or two do not go together."""

    exit_code = 2


class ExtensionError(RequestError):
    """A pipeline, launcher, probe, source or generator is not there, is there twice, or cannot be imported."""


class SourceError(RejeuError):
    """Rows cannot be read: the source is missing, truncated, forbidden or lacks a column."""

    exit_code = 3


class RowError(SourceError):
    """One row cannot become a message: no event time, or larger than Pub/Sub takes."""


class PublishError(RejeuError):
    """The topic refuses the messages, or was away for longer than the replay waits."""

    exit_code = 4


class LeaseHeldError(RejeuError):
    """Another replay holds the right to publish for this stream."""

    exit_code = 5


class LeaseLostError(RejeuError):
    """Another replay took the stream over while this one was away; this one must stop."""

    exit_code = 6


class StateError(RejeuError):
    """The state store cannot be opened, read or written."""

    exit_code = 7


class StateConflictError(StateError):
    """The document is not at the expected version: somebody else wrote it first."""


class LaunchError(RejeuError):
    """A job could not be started, found or stopped."""

    exit_code = 8


class NothingToRepairError(RejeuError):
    """The signal is back, was never gone, or somebody else sees to it."""


class GivenUpError(RejeuError):
    """Relaunches do not bring the signal back: a person must look."""


class StackError(RejeuError):
    """The local stack could not be started or reached."""

    exit_code = 9


Remedy: TypeAlias = tuple[type[Exception] | tuple[type[Exception], ...], str]
"""Kinds of errors, and what helps against them."""


@contextmanager
def translated(into: type[RejeuError], what: str, *remedies: Remedy, why: Callable[[Any], str] = str) -> Iterator[None]:
    """Turn a library's error into one of ours: what cannot be done, why, and the remedy.

    The first of the remedies that names the error's kind counts; an error of no such kind stays. `why` is how the
    library's error is told.
    """
    try:
        yield
    except Exception as error:
        remedy = next((text for kinds, text in remedies if isinstance(error, kinds)), None)
        if remedy is None:
            raise
        raise into(wording(what, why(error), remedy)) from error


def wording(what: str, why: str, remedy: str) -> str:
    """A message about something that cannot be done."""
    return f"{what}: {why.rstrip('.')}; {remedy}"


def first_line(error: Exception) -> str:
    """An error's text without what may follow its first line; its kind where it has no text."""
    return (str(error) or type(error).__name__).splitlines()[0]


class ExitCode(NamedTuple):
    """One way for a program to end: its code, the class of the error, and what that means."""

    code: int
    error: str
    meaning: str


def exit_code(kind: type[RejeuError]) -> ExitCode:
    """How a program ends that one of these errors ends."""
    return ExitCode(kind.exit_code, kind.__name__, (kind.__doc__ or "").partition("\n")[0])


def exit_codes() -> list[ExitCode]:
    """Those of all errors of this module, by code."""
    return sorted(map(exit_code, _below(RejeuError)), key=lambda each: each.code)


def _below(kind: type[RejeuError]) -> Iterator[type[RejeuError]]:
    for each in kind.__subclasses__():
        if each.__module__ == __name__:
            yield each
        yield from _below(each)


MOST_SAID: Final = 500
"""Characters of a text of somebody else's that a message has."""


def brief(text: str) -> str:
    """The text, or its beginning and its end where it is long."""
    return text if len(text) <= MOST_SAID else f"{text[: MOST_SAID - 100]} … {text[-100:]}"


def told(value: object) -> str:
    """A value as Python writes it, in few words: lists of lists may be as long as memory is."""
    try:
        return _VALUES.repr(value)
    except ValueError:  # a number of more digits than Python writes
        return "a number of very many digits"


def explain(detail: Any) -> str:
    """What pydantic found, as the value and the rule; the rule alone where the value is a whole mapping."""
    message = brief(str(detail["msg"]).removeprefix("Value error, "))
    if "it is" in message or isinstance(detail["input"], dict):
        return message
    return f"it is {told(detail['input'])}: {message}"


def explain_first(error: ValidationError) -> str:
    """The first thing that pydantic found, behind the field where it is."""
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {explain(first)}"


_VALUES: Final = reprlib.Repr()
_VALUES.maxstring = _VALUES.maxother = _VALUES.maxlong = 80
_VALUES.maxlevel = 2


def _printable(text: str) -> str:
    """The text without what a database or a terminal refuses: control characters, and halves of characters."""
    return "".join(each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text)
