"""What a pipeline says of itself in its record, known without importing Beam, so that tables can be made first.

Rejeu's own pipelines are in `beam_jobs/pipelines/`, one package each; how users add theirs is in `rejeu.registry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rejeu.registry import Registry
from rejeu.spec.columns import Column


@dataclass(frozen=True)
class Windows:
    """Of a pipeline that aggregates: the columns by which its rows are told apart and compared.

    An open window's row is written again and again, each time with what it holds by then. Of two rows for one key and
    window the one that counts more records is the newer one.
    """

    key: tuple[str, ...]
    start: str
    """The column of a window's first instant, which is the row's event time."""
    end: str
    count: str
    """The column that says how many records the row was made from."""
    seconds: float
    """How long a window lasts where the spec does not say."""


@dataclass(frozen=True)
class View:
    """A question that every stream of a pipeline is asked: a view called `<streaming table>_<name>`.

    `{live}` in its query stands for the stream's live view, in full and quoted.
    """

    name: str
    query: str


@dataclass(frozen=True)
class Pipeline:
    """A pipeline: the value of PIPELINE in its package. Airflow imports it, and has no Beam: `module` stands apart."""

    module: str
    """The module that has `transform(request: PipelineRequest) -> PTransform`, of messages to (rows, dead letters)."""
    columns: tuple[Column, ...] | None = None
    """What it writes, in this order; None where it writes the source's columns as they are."""
    windows: Windows | None = None
    views: tuple[View, ...] = ()
    serves_bigtable: bool = False
    """Whether it also keeps rows in Bigtable, where the target has one."""
    spark: str | None = None
    """The Spark program that makes the same rows of the same raw files, for ranges too long for a batch a day."""


PIPELINES: Final = Registry("pipeline", Pipeline, "beam_jobs.pipelines")
