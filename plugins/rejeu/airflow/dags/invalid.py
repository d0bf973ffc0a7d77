"""`<file>.invalid`: what a stream has in place of its DAGs while its spec is wrong."""

from __future__ import annotations

from textwrap import shorten
from typing import Final

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from rejeu.airflow.docs import table
from rejeu.errors import SpecError

REASON_LENGTH: Final = 120
"""How much of the reason stands on the DAG's card; its page has all of it."""


def build_invalid(name: str, error: SpecError) -> DAG:
    """A DAG that says what is wrong with a spec; it breaks nobody else's."""
    page = page_of(error)
    reason = f"{error.field}: {error.reason}" if error.field else error.reason
    with DAG(
        dag_id=f"{name}.invalid",
        dag_display_name=f"{name}.invalid: {shorten(reason, REASON_LENGTH, placeholder=' …')}",
        schedule=None,
        catchup=False,
        tags=["rejeu", "invalid"],
        doc_md=page,
        description=str(error),
    ) as dag:
        EmptyOperator(task_id="mend_the_spec", doc_md=page)
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
