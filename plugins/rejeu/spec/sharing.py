"""What two streams may not have in common: where both would write, publish or be called the same, neither runs. And
what one may not name: tables of Rejeu's own, and as its source what it writes itself.

Read together may be anything: sources, raw files of batches, a topic that one publishes and others only read. Rows in
a table of dead letters say whose they are, so that streams may share one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from rejeu.spec.model import StreamSpec
from rejeu.spec.names import replay_job
from rejeu.spec.probes import PROBES

TABLE: Final = "the table"
DATASET: Final = "rejeu"
"""The dataset of Rejeu's own tables where nobody says another."""
OWN_TABLES: Final = ("incidents", "reconciliations")
READ_BY_A_QUERY: Final = re.compile(r"\b(?:from|join)\s+((?:[a-z0-9-]+\.)?[a-z0-9_]+\.[a-z0-9_-]+)", re.IGNORECASE)


class Claim(NamedTuple):
    """Something that a stream has for itself, or `shared` with those who share it, too; `field` of its spec says so."""

    kind: str
    name: str
    field: str
    shared: bool = False


class Clash(NamedTuple):
    """What a stream has in common with another, and by which field of its spec."""

    field: str
    reason: str
    is_table: bool = False


def own_project(environment: Mapping[str, str] | None = None) -> str:
    """The project that tables without one lie in, by Rejeu's variable or else Google's."""
    given = os.environ if environment is None else environment
    return given.get("REJEU_PROJECT") or given.get("GOOGLE_CLOUD_PROJECT", "")


def own_dataset(environment: Mapping[str, str] | None = None) -> str:
    """The dataset of Rejeu's own tables."""
    given = os.environ if environment is None else environment
    return given.get("REJEU_DATASET") or DATASET


def misnamed(spec: StreamSpec) -> Clash | None:
    """The first table that the spec names and may not: Rejeu's own, or as the source what the stream writes."""
    project = own_project()
    written = {claim.name: claim.field for claim in _claims(spec, project) if claim.kind == "the table"}
    read = _sources(spec, project)
    for table, field in (written | read).items():
        if _is_rejeus(table, project):
            rule = "Rejeu keeps what it does there" if not table.count("_staging.") else "its tables expire in a day"
            return Clash(field, f"it is {table!r}, which is Rejeu's own: {rule}")
    for table, field in read.items():
        # The batch table is no part of what is replayed into.
        if written.get(table) not in (None, "batch.table"):
            return Clash(field, f"it is {table!r}, which the stream writes: it would replay itself for ever")
    return None


def _sources(spec: StreamSpec, project: str) -> dict[str, str]:
    """The tables that the replay reads, as far as a query says so plainly, and the fields that name them."""
    if spec.replay is None:
        return {}
    source = spec.replay.source
    named = {_full(source.table, project): "replay.source.table"} if source.table else {}
    queried = READ_BY_A_QUERY.findall((source.query or "").replace("`", ""))
    return named | {_full(table, project): "replay.source.query" for table in queried}


def _is_rejeus(table: str, project: str) -> bool:
    own = own_dataset()
    dataset, _, name = table.removeprefix(f"{project}.").rpartition(".")
    return (dataset == own and name in OWN_TABLES) or dataset == f"{own}_staging"


def clashes(specs: Sequence[StreamSpec]) -> dict[str, list[tuple[Clash, str]]]:
    """Of each stream that shares what must be its own: what that is, and with which other stream."""
    project = own_project()
    owners: dict[tuple[str, str], list[tuple[StreamSpec, Claim]]] = {}
    for spec in specs:
        for claim in _claims(spec, project):
            owners.setdefault((claim.kind, claim.name), []).append((spec, claim))
    found: dict[str, list[tuple[Clash, str]]] = {}
    for (kind, name), claimed in owners.items():
        for spec, claim in claimed:
            for other, theirs in claimed:
                if other is not spec and not (claim.shared and theirs.shared):
                    reason = f"{kind} {name} is also {theirs.field} of the stream {other.stream}"
                    clash = Clash(claim.field, reason, is_table=kind == TABLE)
                    found.setdefault(spec.stream, []).append((clash, other.stream))
    return found


def _claims(spec: StreamSpec, project: str) -> Iterator[Claim]:
    live, replay = spec.live, spec.replay
    tables = [(live.table, "live.table"), (spec.view, "live.view")]
    tables += [(f"{live.table}_{view.name}", "a view of live.pipeline") for view in spec.pipeline.views]
    tables += [(spec.batch.table, "batch.table")] if spec.batch else []
    for table, field in tables:
        yield Claim(TABLE, _full(table, project), field)
    yield Claim(TABLE, _full(spec.dead_letters, project), "live.dead_letters", shared=True)
    yield Claim("the subscription", spec.subscription, "live.topic")
    if any(PROBES[name].needs_tap for name in spec.watchdog.probe):
        yield Claim("the subscription", spec.tap, "watchdog.probe")
    yield Claim("the job", replay_job(spec.stream), "stream")
    if replay is None:
        return
    yield Claim("the topic", live.topic, "live.topic")
    if replay.standby:
        yield Claim("the job", replay_job(spec.stream, twin=True), "replay.standby")
    if replay.source.raw:
        yield Claim("the folder", replay.source.raw.rstrip("/"), "replay.source.raw")


def _full(table: str, project: str) -> str:
    return table if table.count(".") == 2 or not project else f"{project}.{table}"
