"""What a kind of DAG is, as one record, and what the kinds share: assets, instants in forms, and retries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.sdk import Asset, Param
from airflow.sdk.api.datamodels._generated import DagRunType

from rejeu.spec.model import StreamSpec
from rejeu.target import Target

BEGINNING: Final = datetime(2015, 1, 1, tzinfo=UTC)
"""No backfill reaches further back."""
RETRIES: Final = {"retries": 2, "retry_delay": timedelta(seconds=10), "retry_exponential_backoff": True}
SOON: Final[dict[str, Any]] = {"retries": 2, "retry_delay": timedelta(seconds=1)}
"""A deferred task must have retries: Airflow 3.3 may take one that is resumed very quickly for one that failed."""
NO_BACKFILL: Final = (DagRunType.SCHEDULED, DagRunType.MANUAL)
"""The types of run of a DAG that looks at what there is now."""
INSTANT: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d([.]\d{1,6})?)?(Z|[+-]\d\d:\d\d)$"
"""Airflow checks `format: date-time` only where rfc3339-validator is installed, which it does not ask for."""


def _every_stream(spec: StreamSpec) -> bool:
    return True


def _by_hand(spec: StreamSpec, target: Target | None) -> None:
    return None


def _no_form(spec: StreamSpec) -> dict[str, Param]:
    return {}


@dataclass(frozen=True, kw_only=True)
class DagKind:
    """All that is known of one kind of DAG; what the kinds have in common is in `factory.py`."""

    name: str
    """The last word of its DAGs' ids, after the stream's name."""
    purpose: str
    """What it is for, in a few words: they stand on its card, after its id."""
    summary: str
    """What it does, in one sentence that begins with the verb: its tooltip and the start of its page."""
    page: Callable[[StreamSpec], str]
    """The rest of its page, as Markdown; it may be indented."""
    tasks: Callable[[StreamSpec], None]
    """Makes its tasks and wires them, within the DAG."""
    has: Callable[[StreamSpec], bool] = _every_stream
    """Whether a stream has such a DAG."""
    schedule: Callable[[StreamSpec, Target | None], Any] = _by_hand
    """When it runs; by hand only unless it says otherwise. No target: its settings are wrong."""
    begins: bool = False
    """Whether a stream's life begins with it: it starts paused where the target has streams wait."""
    form: Callable[[StreamSpec], dict[str, Param]] = _no_form
    """What a person may fill in when they start a run by hand."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What else its DAGs are made with, as `airflow.sdk.DAG` takes it."""


def asset_of(spec: StreamSpec, name: str, **arguments: Any) -> Asset:
    """An asset of the stream, by which one of its DAGs starts another."""
    # x-: any other scheme makes Airflow ask every provider for it, which brings Google's clients along: 1 s a task.
    return Asset(name=f"{spec.stream}.{name}", uri=f"x-rejeu://{spec.stream}/{name}", **arguments)
