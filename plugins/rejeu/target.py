"""The target: where jobs run and where things lie. The same specs and DAGs serve every target; only this differs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from rejeu.errors import ExtensionError, RequestError, brief, explain
from rejeu.ports import Launcher
from rejeu.registry import Registry
from rejeu.spec.shapes import Shape
from rejeu.spec.sharing import DATASET, own_project
from rejeu.spec.types import Speed
from rejeu.spec.workers import ServiceAccount

PREFIX = "REJEU_"
LOCAL_STATE: Final = "sqlite:"
"""What the URI of a state store begins with that is a file of one machine."""
BIGQUERY_EMULATORS: Final = ("BIGQUERY_EMULATOR_HOST", "BIGQUERY_STORAGE_EMULATOR_HOST")
EMULATORS: Final = ("PUBSUB_EMULATOR_HOST", *BIGQUERY_EMULATORS, "STORAGE_EMULATOR_HOST", "BIGTABLE_EMULATOR_HOST")
"""What names servers of this machine in the place of Google's, which a job is to talk to as its starter does."""
KEPT: Final = timedelta(days=14)
"""How long what jobs leave behind is kept: files, logs, reports."""
REGION: Final = Shape(r"^([a-z]+-[a-z]+[0-9]+)?$", "it must be a region, such as europe-west1")
IMAGE: Final = Shape(
    r"^([\w.][\w./:-]*(@sha256:[0-9a-f]{64})?)?$",
    "it must be an image, such as europe-docker.pkg.dev/PROJECT/rejeu/replay:1 or NAME@sha256: with 64 digits",
)
CPU: Final = Shape(r"^(0\.\d*[1-9]|[1-9]\d*(\.\d+)?)$", "it must be a number of processors, such as 1 or 0.5")
MEMORY: Final = Shape(r"^[1-9]\d*(Mi|Gi)$", "it must be Mi or Gi, such as 2Gi")
TEMPLATE: Final = Shape(r"^(gs://.+/.+)?$", "it must be gs://BUCKET/PATH")


class Left(StrEnum):
    """What a stream's jobs leave as files for the tasks that wait for them."""

    STAGING = "staging"
    """Prepared files of a day, for a load job."""
    RECONCILIATIONS = "reconciliations"
    """What a comparison found."""


@dataclass(frozen=True)
class LauncherKind:
    """A launcher as targets name it: the value of LAUNCHER in its module."""

    make: Callable[[Target, Mapping[str, str]], Launcher]
    """Makes the launcher, for this target and the process's environment, where it may have variables of its own.

    It is called often, in the triggerer's event loop, too: it asks nobody, and the launcher brings its library when it
    is first used. Raises RequestError where a variable of its own is missing or wrong.
    """
    needs: tuple[str, ...] = ()
    """The target's fields that it cannot do without."""
    starts_replays: bool = True
    """Whether REJEU_LAUNCHER may name it."""
    starts_streams: bool = False
    """Whether REJEU_JOBS may name it."""
    runs_jobs: bool = False
    """Whether jobs that end by themselves run there too, in the jobs' image, where it starts replays. Else they are
    processes of the worker, which the triggerer must then share a machine with."""
    elsewhere: bool = False
    """Whether its jobs run on other machines, or as if: they see no file of this one."""
    hands_on: tuple[str, ...] = ()
    """The variables of its own environment that it gives to jobs elsewhere."""
    emulator: str = ""
    """The variable that names a server in the place of its service, as tests start one: its jobs then run here."""

    def __post_init__(self) -> None:
        for name in self.needs:
            if name not in Target.model_fields:
                raise ValueError(f"needs has {name!r}: a target has {', '.join(Target.model_fields)}")

    def may_be(self, field: str) -> bool:
        """Whether this field of a target may name it."""
        return self.starts_replays if field == "launcher" else self.starts_streams


LAUNCHERS: Final = Registry("launcher", LauncherKind, "rejeu.launchers", dashes=True)


def launchers_for(field: str) -> list[str]:
    """The names that this field of a target may have."""
    names = []
    for name in LAUNCHERS:
        with suppress(ExtensionError):  # who names that one is told what is wrong with it
            if LAUNCHERS[name].may_be(field):
                names.append(name)
    return names


class Target(BaseModel):
    """Read from the environment variables `REJEU_<FIELD>`, which containers, Airflow and laptops all have."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    project: str = Field(min_length=6)
    """Google Cloud project of topics, tables and jobs."""
    bucket: str = ""
    """Cloud Storage bucket for raw files and staging, without gs://."""
    state: str = "sqlite:.rejeu/state.db"
    """The state store's URI, as `rejeu.state.open_store` reads it."""
    dataset: str = DATASET
    """BigQuery dataset of Rejeu's own tables, and beside it `<dataset>_staging`, whose tables expire."""
    location: str = "US"
    """BigQuery location of new datasets."""
    image: Annotated[str, IMAGE] = ""
    """The replay's image (docker/replay.Dockerfile), for launchers that start containers: NAME:TAG, or NAME@sha256:…"""
    cpu: Annotated[str, CPU] = "1"
    """How many processors the container of a replay may use on Docker, Kubernetes and Cloud Run."""
    memory: Annotated[str, MEMORY] = "2Gi"
    """How much memory it may use there, in Mi or Gi; it is ended where it wants more."""
    region: Annotated[str, REGION] = ""
    """Where Cloud Run and Vertex AI run it, and Dataflow the streaming jobs, such as europe-west1."""
    service_account: str = ""
    """Whose rights it has in the cloud, an e-mail address; on Kubernetes the account's name in the namespace."""
    namespace: str = "default"
    """Kubernetes namespace of the replay."""
    network: str = ""
    """Docker network of the replay."""
    template: Annotated[str, TEMPLATE] = ""
    """Where `gcloud dataflow flex-template build` put the streaming jobs' template, gs://…"""
    jobs_image: Annotated[str, IMAGE] = ""
    """The jobs' image (docker/beam.Dockerfile), the same as the template's: NAME:TAG, or NAME@sha256:…"""
    jobs_service_account: ServiceAccount | Literal[""] = ""
    """Whose rights streaming jobs have on Dataflow where their specs do not say, an e-mail address."""
    production: bool = False
    """Whether people rely on what is written here: simulators are refused."""
    bigtable: str = ""
    """Id of the Bigtable instance for what is served from there; without one it is served from BigQuery."""
    open_data: str = "https://opendata.lillemetropole.fr"
    """The open-data server that APIs are asked at."""
    speed: Speed | None = None
    """Replaces every spec's speed: a laptop replays an hour in a minute with 60."""
    notifier: str = ""
    """Dotted path of an Airflow notifier, or of a callable that makes one: what tells a person of incidents."""
    alerts: str = ""
    """Id of the Pub/Sub subscription to which Cloud Monitoring's alerts come (infra/)."""
    streams_wait: bool = False
    """Whether a new stream's batch starts paused until a person switches it on, as `rejeu up` has it."""
    home: Path = Path(".rejeu")
    """Folder for what local jobs leave: records and logs."""
    # These two come last: what a launcher needs can be any field, and must be known when they are checked.
    launcher: str = "process"
    """What starts the replay."""
    jobs: str = "process"
    """What starts streaming jobs. Jobs that end by themselves, which prepare a batch or compare, run where replays do
    on cloud-run, kubernetes and vertex-ai, and else are processes of the worker."""

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Raises RequestError naming the variable where one is missing or wrong."""
        given = os.environ if environment is None else environment
        values = {name: given[PREFIX + name.upper()] for name in cls.model_fields if PREFIX + name.upper() in given}
        values.setdefault("project", own_project(given))
        try:
            target = cls.model_validate(values)
        except ValidationError as error:
            detail = error.errors()[0]
            variable = PREFIX + str(detail["loc"][0]).upper()
            raise RequestError(f"{variable}: {explain(detail)}. Set it in Airflow's environment") from None
        target._refuse_emulators(given)
        return target

    @field_validator("launcher", "jobs")
    @classmethod
    def _is_there_with_what_it_needs(cls, launcher: str, others: ValidationInfo) -> str:
        field = str(others.field_name)
        try:
            kind = LAUNCHERS.find(launcher, "it") if launcher in LAUNCHERS else None
        except ExtensionError as error:
            raise ValueError(str(error)) from None
        if kind is None or not kind.may_be(field):
            raise ValueError(f"it is {launcher!r}: it must be one of {', '.join(launchers_for(field))}")
        for name in kind.needs:
            # A field that is wrong itself is missing here, too, and is told of first.
            if not others.data.get(name):
                raise ValueError(f"it is {launcher!r}: set {PREFIX}{name.upper()} too")
        state = str(others.data.get("state", ""))
        if field == "launcher" and kind.elsewhere and state.startswith(LOCAL_STATE):
            # Each relaunch would find no sign of life there, and kill a replay that lives.
            rule = f"its replays run elsewhere, and cannot see {PREFIX}STATE {brief(state)!r}, a file of this machine"
            raise ValueError(f"it is {launcher!r}: {rule}; set {PREFIX}STATE to gs://BUCKET/PREFIX")
        return launcher

    def _refuse_emulators(self, environment: Mapping[str, str]) -> None:
        """Raises RequestError where some parts would talk to emulators, and others to Google, about the same things."""
        named = [name for name in EMULATORS if environment.get(name)]
        for field in ("launcher", "jobs"):
            launcher = getattr(self, field)
            kind = LAUNCHERS[launcher]
            unseen = [name for name in named if name not in kind.hands_on]
            if unseen and kind.elsewhere and not environment.get(kind.emulator):
                variable = PREFIX + field.upper()
                rule = (
                    f"its jobs run elsewhere and ask Google, and {unseen[0]} names a server that only this machine asks"
                )
                raise RequestError(f"{variable} is {launcher!r}: {rule}; unset {', '.join(unseen)}, or {variable}")
        if self.production and named:
            rule = f"{PREFIX}PRODUCTION marks this target as one that people rely on, and {named[0]} an emulator's"
            raise RequestError(f"{rule}, which keeps nothing: unset one of them")
        halves = [name for name in BIGQUERY_EMULATORS if name in named]
        if len(halves) == 1:
            (other,) = {*BIGQUERY_EMULATORS} - {*halves}
            rule = f"{halves[0]} is set and {other} is not: tables would be made in one BigQuery and read from another"
            raise RequestError(f"{rule}; set both, or none")

    def expand(self, text: str, **values: str) -> str:
        """Fill `{bucket}` and the like into a path of a spec. Raises RequestError where there is no bucket."""
        if "{bucket}" in text and not self.bucket:
            raise RequestError(f"{PREFIX}BUCKET is empty, and {brief(text)!r} lies in it: set it to the bucket's name")
        return text.format(bucket=self.bucket, **values)

    def table(self, name: str) -> str:
        """The table's full name: `dataset.table` lies in the target's project."""
        return name if name.count(".") == 2 else f"{self.project}.{name}"

    def topic(self, name: str) -> str:
        """The topic as Pub/Sub names it."""
        return f"projects/{self.project}/topics/{name}"

    def subscription(self, name: str) -> str:
        """The subscription as Pub/Sub names it."""
        return f"projects/{self.project}/subscriptions/{name}"

    def for_jobs(self) -> Self:
        """The same place, for the launcher that starts jobs that end by themselves: they run the jobs' image."""
        return self.model_copy(update={"image": self.jobs_image})

    def left_by(self, kind: Left) -> str:
        """The folder in which a stream's jobs leave such files, each stream in a folder of its own name."""
        return f"gs://{self.bucket}/rejeu/{kind}" if self.bucket else str(self.home / kind)

    @property
    def staging(self) -> str:
        """The dataset of the tables that load jobs fill before their rows are put in place."""
        return f"{self.project}.{self.dataset}_staging"

    @property
    def incidents(self) -> str:
        """The table of incidents."""
        return f"{self.project}.{self.dataset}.incidents"

    @property
    def reconciliations(self) -> str:
        """The table of what was compared, missing and healed."""
        return f"{self.project}.{self.dataset}.reconciliations"
