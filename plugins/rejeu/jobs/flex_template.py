"""The streaming job as a flex template of Dataflow: the parameters that Google's console asks for and checks.

docker/beam.Dockerfile builds its image; `rejeu.launchers.dataflow` launches it.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

from rejeu.jobs.request import StreamJobRequest
from rejeu.spec.names import STREAM_NAME
from rejeu.spec.pipelines import PIPELINES

SUBSCRIPTION: Final = r"projects/[a-z][a-z0-9:.-]{4,}[a-z0-9]/subscriptions/[A-Za-z][A-Za-z0-9_.~+%-]{2,254}"
TABLE: Final = r"[a-z][a-z0-9-]{4,28}[a-z0-9]\.[A-Za-z0-9_]+\.[A-Za-z0-9_-]+"

REGEXES: Final = {
    "stream": STREAM_NAME,
    "subscription": f"^{SUBSCRIPTION}$",
    "table": f"^{TABLE}$",
    "dead_letters": f"^{TABLE}$",
}
NO_PARAMETERS: Final = frozenset({"workers"})
"""Fields that are no parameters: the launcher or the console's own form sets them in Dataflow's terms."""


def metadata() -> dict[str, Any]:
    """The template's metadata file (https://cloud.google.com/dataflow/docs/guides/templates/configuring-flex-templates)."""
    fields = StreamJobRequest.model_fields.items()
    regexes = REGEXES | {"pipeline": f"^({'|'.join(PIPELINES)})$"}
    return {
        "name": "Rejeu stream",
        "description": inspect.getdoc(StreamJobRequest),
        "streaming": True,
        "supportsAtLeastOnce": True,
        "supportsExactlyOnce": True,
        "parameters": [
            _parameter(name, field, regexes.get(name)) for name, field in fields if name not in NO_PARAMETERS
        ],
    }


def _parameter(name: str, field: Any, regex: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "helpText": field.description,
        "isOptional": not field.is_required(),
        "regexes": [regex] if regex else [],
    }
