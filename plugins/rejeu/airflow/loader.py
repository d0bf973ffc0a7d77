"""From folders of specs to DAGs, each stream on its own: no network, no database, no Google client while parsing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from airflow.sdk import DAG, get_parsing_context

from rejeu.airflow.dags.invalid import build_invalid, build_unset
from rejeu.airflow.dags.patrol import build_patrol
from rejeu.airflow.factory import build_dag, kinds_of
from rejeu.errors import RequestError, SpecError
from rejeu.spec.files import Loaded, load_specs, load_stream, look_beside, spec_folders
from rejeu.spec.names import number_of
from rejeu.target import Target

log = logging.getLogger(__name__)


def load_dags(dag_file: str, *, number: int = 0, of: int = 1) -> Iterator[DAG]:
    """Every DAG of the streams that fall to this file; a worker, which wants one DAG only, builds that one alone.

    Airflow gives each DAG file 30 s: thousands of streams are divided among several, `number` 0 to `of` - 1, each
    stream by its name. Raises ValueError where there is no such number.
    """
    if not 0 <= number < of:
        raise ValueError(f"number is {number}: it must be 0 to {of - 1}, for there are {of} files")
    folders = spec_folders(Path(dag_file).parent)
    wanted = get_parsing_context().dag_id
    name, _, kind = (wanted or "").rpartition(".")
    found = load_specs(folders) if wanted is None else load_stream(folders, name)
    target, _ = _settings()  # they may name a launcher beside the specs
    if wanted is None:
        yield from build_all([loaded for loaded in found if number_of(loaded.name, of) == number], target)
    else:
        for loaded in found:
            yield from build_dags(loaded, target, [kind])


def load_patrol(dag_file: str, *, looks: int = 1) -> Iterator[DAG]:
    """The patrol, which reads the specs when it runs: none of them can break it. Another DAG where settings are wrong.

    One look sees about a thousand streams within its minute: for more of them there are several `looks`, side by side.
    """
    folders = spec_folders(Path(dag_file).parent)
    look_beside(folders)
    target, error = _settings()
    yield build_patrol(folders, target, looks)
    if error is not None:
        yield build_unset(error)


def build_all(found: Sequence[Loaded], target: Target | None) -> Iterator[DAG]:
    """The DAGs of all these specs."""
    for loaded in found:
        yield from build_dags(loaded, target)


def build_dags(loaded: Loaded, target: Target | None, kinds: Sequence[str] | None = None) -> list[DAG]:
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


def _settings() -> tuple[Target | None, RequestError | None]:
    """The target, or what is wrong with its settings: no reason for DAGs, and their runs, to vanish."""
    try:
        return Target.from_env(), None
    except RequestError as error:
        log.warning("no stream is watched: %s", error)
        return None, error
