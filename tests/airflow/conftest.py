"""What the tests of the Airflow side share: a home for Airflow, the specs, and a fake at each seam."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Before anything imports Airflow, which makes its home at once.
_HOME = tempfile.TemporaryDirectory(prefix="rejeu-airflow-")
os.environ["AIRFLOW_HOME"] = _HOME.name

from airflow.sdk import DAG  # noqa: E402

from docs.generate.dags import STREAMS, TARGET  # noqa: E402
from rejeu.airflow.dags.patrol import build_patrol  # noqa: E402
from rejeu.airflow.loader import build_all  # noqa: E402
from rejeu.airflow.operators import base, patrol  # noqa: E402
from rejeu.airflow.triggers import jobs, watching  # noqa: E402
from rejeu.ports import JobState  # noqa: E402
from rejeu.spec.files import load_specs, read_spec  # noqa: E402
from rejeu.spec.model import StreamSpec  # noqa: E402
from rejeu.target import Target  # noqa: E402
from rejeu.testing import FakeLauncher, MemoryStore  # noqa: E402
from rejeu.watchdog import jobs_seen, watch  # noqa: E402
from rejeu.watchdog.watch import WatchPlan  # noqa: E402
from tests.airflow.builders import FakeBigQuery  # noqa: E402


@pytest.fixture(scope="session")
def dags() -> dict[str, DAG]:
    """Every DAG of the project's own streams."""
    return {dag.dag_id: dag for dag in [*build_all(load_specs([STREAMS]), TARGET), build_patrol([STREAMS], TARGET)]}


@pytest.fixture
def spec() -> StreamSpec:
    return read_spec(STREAMS / "crypto_rates.yaml")


@pytest.fixture
def spec_with(spec: StreamSpec) -> Callable[..., StreamSpec]:
    """The spec with some parts replaced."""

    def change(**parts: Any) -> StreamSpec:
        return StreamSpec.model_validate(spec.model_dump() | parts)

    return change


@pytest.fixture
def foreign_spec(spec_with: Callable[..., StreamSpec]) -> StreamSpec:
    """The spec where somebody else publishes the stream."""
    return spec_with(replay=None, watchdog={"probe": "tap"})


@pytest.fixture(autouse=True)
def made_sure(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The streams whose topic was made sure of."""
    streams: list[str] = []
    monkeypatch.setattr(base.StreamOperator, "ensure_topic", lambda self, context: streams.append(self.spec.stream))
    return streams


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose old files were removed."""
    folders: list[str] = []
    monkeypatch.setattr(
        base.StreamOperator, "forget_old", lambda self, kind: folders.append(f"{kind}/{self.spec.stream}")
    )
    return folders


@pytest.fixture(autouse=True)
def target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Target:
    """The environment of a worker and a triggerer."""
    for name in [name for name in os.environ if name.startswith("REJEU_")]:
        monkeypatch.delenv(name)
    for name, value in {"PROJECT": "rejeu-test", "BUCKET": "raw", "STATE": "sqlite:state.db"}.items():
        monkeypatch.setenv(f"REJEU_{name}", value)
    monkeypatch.setenv("REJEU_HOME", str(tmp_path))
    return Target.from_env()


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """The state store that operators and the watch open."""
    memory = MemoryStore()
    for module in (base, watch, jobs, watching):
        monkeypatch.setattr(module, "open_store", lambda uri: memory)
    return memory


@pytest.fixture(autouse=True)
def launcher(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    """Both launchers of the target."""
    fake = FakeLauncher()
    monkeypatch.setattr(base, "replay_launcher", lambda target: fake)
    for module in (base, patrol, jobs, watching):
        monkeypatch.setattr(module, "job_launcher", lambda target: fake)
    monkeypatch.setattr(jobs_seen, "JOB_LOOK_SECONDS", 0.01)
    watching.stream_jobs.cache_clear()
    return fake


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(WatchPlan, "checkpoint_seconds", 0.0)


@pytest.fixture
def bigquery(monkeypatch: pytest.MonkeyPatch) -> FakeBigQuery:
    """The client that operators get from the Airflow connection."""
    fake = FakeBigQuery()
    monkeypatch.setattr(base.StreamOperator, "bigquery", lambda self: fake)
    return fake


@pytest.fixture
def end(launcher: FakeLauncher) -> Callable[..., Callable[[], None]]:
    """What happens to a job (None: to the one started last) while a task is deferred, told before it happens."""

    def later(name: str | None, state: JobState, detail: str = "") -> Callable[[], None]:
        return lambda: launcher.end(name or launcher.started[-1].job_name, state, detail)

    return later
