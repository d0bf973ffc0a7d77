"""From a spec to its DAGs: what all kinds have in common. What one kind is, its module in `dags/` says."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG

from rejeu.airflow import docs
from rejeu.airflow.dags.kind import BEGINNING, RETRIES, DagKind
from rejeu.airflow.dags.registry import KINDS
from rejeu.spec.model import StreamSpec
from rejeu.target import Target


def kinds_of(spec: StreamSpec) -> list[str]:
    """The DAGs that this stream has, by the last word of their ids."""
    return [kind.name for kind in KINDS if kind.has(spec)]


def build_dag(spec: StreamSpec, name: str, target: Target | None) -> DAG:
    """One DAG of a stream; a worker builds no other than its own, for each costs it time before its task begins.

    Without a target, whose settings are wrong, nobody watches, and each task says why it fails.
    """
    kind = next((kind for kind in KINDS if kind.name == name and kind.has(spec)), None)
    if kind is None:
        raise ValueError(f"{spec.stream} has no DAG {name!r}: it has {', '.join(kinds_of(spec))}")
    with DAG(**_arguments(kind, spec, target)) as dag:
        kind.tasks(spec)
    # Last: each task would get a copy of it, which costs more than all else of a DAG.
    dag.params.update(kind.form(spec))
    return dag


def _arguments(kind: DagKind, spec: StreamSpec, target: Target | None) -> dict[str, Any]:
    return {
        "dag_id": f"{spec.stream}.{kind.name}",
        # On a card the name is all that is read without pointing at it: Airflow shows the description in a tooltip.
        "dag_display_name": f"{spec.stream}.{kind.name}: {kind.purpose}",
        "description": kind.summary,
        "doc_md": docs.page(spec, kind.summary, kind.page(spec)),
        "tags": ["rejeu", spec.stream, kind.name, *spec.tags],
        "default_args": {"owner": spec.owner, **RETRIES},
        "schedule": kind.schedule(spec, target),
        "start_date": BEGINNING,
        "catchup": False,
        "max_active_runs": 1,
        "is_paused_upon_creation": True if kind.begins and target is not None and target.streams_wait else None,
        **kind.arguments,
    }
