"""`<file>.invalid`: what a stream has in place of its DAGs while its spec is wrong; `rejeu.settings.invalid`."""

from __future__ import annotations

from textwrap import shorten
from typing import Final

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from rejeu.airflow.docs import table
from rejeu.errors import RequestError, SpecError

REASON_LENGTH: Final = 120
"""How much of the reason stands on the DAG's card; its page has all of it."""


def build_invalid(name: str, error: SpecError) -> DAG:
    """A DAG that says what is wrong with a spec; it breaks nobody else's."""
    reason = f"{error.field}: {error.reason}" if error.field else error.reason
    return _build(name, reason, str(error), page_of(error), "mend_the_spec")


def build_unset(error: RequestError) -> DAG:
    """A DAG that says which setting of Airflow's environment is missing or wrong."""
    until = "Until then no stream is watched, and every task fails with these words."
    page = f"# Rejeu's settings are wrong\n\n{error}.\n\n{until}"
    return _build("rejeu.settings", str(error), str(error), page, "mend_the_settings")


def _build(name: str, reason: str, description: str, page: str, task: str) -> DAG:
    with DAG(
        dag_id=f"{name}.invalid",
        dag_display_name=f"{name}.invalid: {shorten(reason, REASON_LENGTH, placeholder=' …')}",
        schedule=None,
        catchup=False,
        tags=["rejeu", "invalid"],
        doc_md=page,
        description=description,
    ) as dag:
        EmptyOperator(task_id=task, doc_md=page)
    return dag


def page_of(error: SpecError) -> str:
    """What is wrong with a spec, as Markdown."""
    facts = table(
        [
            ("file", f"`{error.file}`"),
            ("field", f"`{error.field}`" if error.field else "the whole file"),
            ("reason", error.reason),
            ("remedy", error.remedy),
        ],
        head=("", ""),
    )
    return "\n\n".join(
        [
            "# This stream's spec is not valid",
            facts,
            "Mend the file: this DAG then gives way to the stream's own. Other streams are not affected.",
        ]
    )
