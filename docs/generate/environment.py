"""The page about environment variables: the target's settings, and what is read elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from docs.generate.markdown import code, page, table
from rejeu.target import LAUNCHERS, PREFIX, Target, launchers_for

ROOT: Final = Path(__file__).parents[2]
CODE: Final = ("plugins", "beam_jobs", "spark_jobs", "dags")
NAME: Final = re.compile(r"\bREJEU_[A-Z_]*[A-Z]\b")
INTRODUCTION: Final = """
Specs and DAGs are the same everywhere; only these differ. In the cloud they belong into Airflow's environment. The
local stack sets its own, and `rejeu env` prints them.
"""
OTHERS: Final[Mapping[str, str]] = {
    "REJEU_EXTENSIONS": "Folders of modules of your own, separated by colons, besides those that stand beside specs.",
    "REJEU_STREAMS": "Folders of specs, separated by colons, in place of the folder `streams` beside the DAG file.",
    "REJEU_DAGS": "The folder of DAG files, and of specs in `streams/`, that commands work with. Default: `dags`.",
    "REJEU_UI_PORT": "The port of the local stack's Airflow. Default: a free one, the same each time where it can be.",
    "REJEU_CLIENT": "Set by `rejeu env`: says that the variables are a stack's own. It marks no process.",
    "REJEU_STACK": "Set by the local stack: marks each of its processes, so that `rejeu down` finds them.",
}
GOOGLES: Final[Mapping[str, str]] = {
    "GOOGLE_CLOUD_PROJECT": "The project, where `REJEU_PROJECT` does not say another.",
    "GOOGLE_APPLICATION_CREDENTIALS": "Read by Google's clients. The local stack does not hand it on.",
    "PUBSUB_EMULATOR_HOST": "A Pub/Sub emulator, `host:port`. The local stack uses it in place of its own.",
    "BIGQUERY_EMULATOR_HOST": "A BigQuery emulator, as a URL.",
    "BIGQUERY_STORAGE_EMULATOR_HOST": "Its Storage Read API, `host:port`.",
    "STORAGE_EMULATOR_HOST": "A Cloud Storage emulator, as a URL.",
    "BIGTABLE_EMULATOR_HOST": "A Bigtable emulator, `host:port`.",
    "MONITORING_EMULATOR_HOST": "A server in place of Cloud Monitoring, `host:port`, as tests start one.",
    "CLOUD_RUN_EMULATOR_HOST": "Likewise of Cloud Run, `host:port`.",
    "DATAFLOW_EMULATOR_HOST": "Likewise of Dataflow, as a URL.",
    "SECRET_MANAGER_EMULATOR_HOST": "Likewise of Secret Manager, as a URL.",
    "VERTEX_AI_EMULATOR_HOST": "Likewise of Vertex AI, as a URL.",
}

NAMING: Final = ("launcher", "jobs")
"""The settings that name a launcher."""


def render() -> str:
    """The page."""
    settings = table(("variable", "takes", "default", "what it says"), map(_setting, Target.model_fields))
    return page(
        "Environment variables",
        INTRODUCTION,
        "## The target",
        settings,
        "### What a launcher needs",
        table(("`REJEU_LAUNCHER` or `REJEU_JOBS`", "needs"), _needs()),
        "## Others",
        table(("variable", "what it says"), ((code(name), text) for name, text in OTHERS.items())),
        "## Google's",
        table(("variable", "what it says"), ((code(name), text) for name, text in GOOGLES.items())),
    )


def named() -> set[str]:
    """Every variable of ours that the code names."""
    files = (file for folder in CODE for file in (ROOT / folder).rglob("*.py"))
    return {name for file in files for name in NAME.findall(file.read_text(encoding="utf-8"))}


def described() -> set[str]:
    """Every variable of ours that the page describes."""
    return {variable(name) for name in Target.model_fields} | OTHERS.keys()


def variable(name: str) -> str:
    """The variable of a setting."""
    return PREFIX + name.upper()


def _setting(name: str) -> Sequence[str]:
    field = Target.model_fields[name]
    schema: Mapping[str, Any] = Target.model_json_schema()["properties"][name]
    values = launchers_for(name) if name in NAMING else []
    shown = f"**`{variable(name)}`**" if field.is_required() else code(variable(name))
    default = "" if field.is_required() or field.default is None else code(_text(field.default))
    return shown, ", ".join(code(value) for value in values) or _kind(schema), default, field.description or ""


def _kind(schema: Mapping[str, Any]) -> str:
    return {"boolean": "`true` or `false`"}.get(str(schema.get("type")), "text")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _needs() -> Iterator[Sequence[str]]:
    for name in LAUNCHERS:
        yield code(name), ", ".join(code(variable(other)) for other in LAUNCHERS[name].needs) or "nothing"
