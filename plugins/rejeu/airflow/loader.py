"""From folders of specs to DAGs, each stream on its own: no network, no database, no Google client while parsing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from airflow.sdk import DAG, get_parsing_context

from rejeu.airflow.dags.invalid import build_invalid
from rejeu.airflow.dags.patrol import PATROL, build_patrol
from rejeu.airflow.factory import build_dag, kinds_of
from rejeu.errors import SpecError
from rejeu.spec.files import Loaded, load_specs, spec_folders
from rejeu.target import Target

log = logging.getLogger(__name__)


def load_dags(dag_file: str) -> Iterator[DAG]:
    """Every DAG of every stream, and the patrol; a worker, which wants one DAG only, builds that one alone."""
    wanted = get_parsing_context().dag_id
    found = load_specs(spec_folders(Path(dag_file).parent))
    target = Target.from_env()  # it may name a launcher beside the specs
    if wanted is None:
        yield from build_all(found, target)
    elif wanted == PATROL:
        yield _patrol(found, target)
    else:
        name, _, kind = wanted.rpartition(".")
        for loaded in found:
            if loaded.name == name:
                yield from build_dags(loaded, target, [kind])


def build_all(found: Sequence[Loaded], target: Target) -> Iterator[DAG]:
    """The DAGs of all these specs, and the patrol that looks at their streams."""
    for loaded in found:
        yield from build_dags(loaded, target)
    yield _patrol(found, target)


def build_dags(loaded: Loaded, target: Target, kinds: Sequence[str] | None = None) -> list[DAG]:
    """The DAGs of one spec, or those of these kinds; one DAG that says why where there can be none."""
    if loaded.spec is None:
        assert loaded.error is not None
        return [build_invalid(loaded.name, loaded.error)]
    try:
        return [build_dag(loaded.spec, kind, target) for kind in kinds or kinds_of(loaded.spec)]
    except Exception as error:  # whatever one spec makes Airflow refuse must not take the other streams along
        log.exception("%s: its DAGs cannot be built", loaded.name)
        reason = f"Airflow refuses it: {type(error).__name__}: {error}"
        return [build_invalid(loaded.name, SpecError(str(loaded.file), "", reason, "Mend the spec."))]


def _patrol(found: Sequence[Loaded], target: Target) -> DAG:
    return build_patrol([loaded.spec for loaded in found if loaded.spec is not None], target)
