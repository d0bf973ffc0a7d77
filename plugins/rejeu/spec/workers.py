"""Workers: what a streaming job is given where it runs on many machines, as the spec says it and as a flag says it."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from rejeu.spec.shapes import Shape, from_json

MACHINE: Final = r"^[a-z][a-z0-9]*(-[a-z0-9]+)+$"
LABEL_KEY: Final = r"^[a-z][a-z0-9_-]{0,62}$"
LABEL_VALUE: Final = r"^[a-z0-9_-]{0,63}$"
SERVICE_ACCOUNT: Final = r"^[a-z0-9-]+@[a-z0-9.-]+\.gserviceaccount\.com$"
LABEL_RULE: Final = "it must be at most 63 small letters, digits, dashes and underscores"
ACCOUNT_RULE: Final = "it must be a service account's address, such as job@my-project.iam.gserviceaccount.com"
REQUEST_LABEL: Final = "rejeu-request"
"""Rejeu's own label, which tells what a job was asked to do."""
MOST_LABELS: Final = 63
"""Dataflow takes 64, of which one is Rejeu's."""

MachineType = Annotated[str, Shape(MACHINE, "it must be a machine type, such as n2-standard-2")]
LabelKey = Annotated[str, Shape(LABEL_KEY, f"{LABEL_RULE}, of which the first is a letter")]
LabelValue = Annotated[str, Shape(LABEL_VALUE, LABEL_RULE)]
ServiceAccount = Annotated[str, Shape(SERVICE_ACCOUNT, ACCOUNT_RULE)]


class Workers(BaseModel):
    """The machines of a streaming job on Dataflow; a job that is a process of one machine takes no notice."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many at most; default: as many as Dataflow thinks fit."""
    machine: MachineType | None = None
    """Their type, such as n2-standard-2; default: Dataflow's."""
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=MOST_LABELS)] = {}
    """Labels of the job, for whoever looks at the bill."""
    service_account: ServiceAccount | None = None
    """Whose rights the job has, an e-mail address; default: the target's."""
    at_least_once: bool = False
    """Cheaper and sooner: Dataflow may work a message twice. Every pipeline bears it: the row's id removes what is
    written twice, and windows count each id once."""

    @classmethod
    def read(cls, value: object) -> object:
        """From the text that `str` gives, which is JSON. Raises ValueError."""
        return from_json(value, '{"max": 5}')

    def __str__(self) -> str:
        return self.model_dump_json(exclude_defaults=True)
