"""Every error that Rejeu raises on purpose, and the exit code a program of ours ends with.

    RejeuError                  1  anything of ours that is not named below
    ├── SpecError               2  a stream's YAML file is wrong
    ├── RequestError            2  an argument is wrong, or two do not go together
    ├── SourceError             3  rows cannot be read: missing, truncated, forbidden
    │   └── RowError            3  one row cannot become a message
    ├── PublishError            4  the topic refuses, or stayed away too long
    ├── LeaseHeldError          5  another replay publishes for this stream
    ├── LeaseLostError          6  another replay took over while this one was away
    ├── StateError              7  the state store cannot be used
    │   └── StateConflictError  7  somebody else wrote the document first
    ├── LaunchError             8  a job could not be started, found or stopped
    ├── NothingToRepairError    1  the signal is back, or somebody else sees to it
    ├── GivenUpError            1  relaunches do not help
    └── StackError              9  the local stack could not be started or reached

A message says the value, the rule and the remedy, in that order.
"""

from __future__ import annotations

from typing import Any, ClassVar


class RejeuError(Exception):
    """The root of the tree; `exit_code` is what a program of ours ends with."""

    exit_code: ClassVar[int] = 1


class SpecError(RejeuError):
    """A stream's YAML file is wrong: which file, which field, why, and what to do."""

    exit_code = 2

    def __init__(self, file: str, field: str, reason: str, remedy: str) -> None:
        self.file, self.field, self.reason, self.remedy = file, field, reason, remedy
        where = f"{field}: " if field else ""
        super().__init__(f"{file}: {where}{reason}. {remedy}")


class RequestError(RejeuError):
    """An argument is wrong, or two do not go together."""

    exit_code = 2


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


def explain(detail: Any) -> str:
    """What pydantic found, as the value and the rule; the rule alone where the value is a whole mapping."""
    message = str(detail["msg"]).removeprefix("Value error, ")
    if "it is" in message or isinstance(detail["input"], dict):
        return message
    return f"it is {detail['input']!r}: {message}"
