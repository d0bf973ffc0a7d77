"""The options and the result of a section of the benchmarks; `benchmarks.__main__` has the list of sections."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

T = TypeVar("T")

errors = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Options:
    """How much is measured; `only` has names of subjects and servers, and if it is empty all are meant."""

    messages: int
    rounds: int
    memory_rows: int
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """The same figures for a person and for a program; the latter also has every single run."""

    table: Table
    legend: str
    figures: Any


Section = Callable[[Options], Result]


def steps(name: str, runs: Iterable[T]) -> Iterable[T]:
    """The runs one after the other, with a progress bar."""
    return track(list(runs), name, console=errors)


def figures_table(names: int, *headings: str) -> Table:
    """An empty table whose first columns are names, and whose others are figures."""
    made = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0))
    for at, heading in enumerate(headings):
        made.add_column(heading, justify="left" if at < names else "right")
    return made
