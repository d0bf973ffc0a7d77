"""The task `ensure`: what cannot be streamed is refused before anything is made for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from docs.generate.dags import STREAMS
from rejeu import checks
from rejeu.airflow.operators import base
from rejeu.airflow.operators.live import EnsureStream
from rejeu.bigquery import ensure as ensure_module
from rejeu.errors import RequestError, SourceError
from rejeu.gcp import bigtable
from rejeu.jobs.build import replay_request
from rejeu.spec.files import read_spec
from rejeu.spec.model import StreamSpec
from rejeu.state.lease import read_state
from rejeu.state.live_record import LiveRecord, read_record, spec_of
from rejeu.state.model import StreamState
from rejeu.state.stream import announce
from rejeu.target import Target
from rejeu.testing import MemoryStore
from tests.airflow.builders import FakeBigQuery, FakeTask, a_run

LOOKED = ["looked at the topic", "looked at the tables"]
ENSURE_TOPIC = base.StreamOperator.ensure_topic
"""The real one; tests of tasks have another in its place."""


@pytest.fixture
def spec() -> StreamSpec:
    """A simulated stream that Bigtable may serve."""
    return read_spec(STREAMS / "site_access.yaml")


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch, bigquery: FakeBigQuery) -> list[str]:
    """What the task makes sure of."""
    names: list[str] = []
    monkeypatch.setattr(EnsureStream, "ensure_topic", lambda self, context: names.append("topic"))
    monkeypatch.setattr(ensure_module, "ensure_tables", lambda *_: names.append("tables"))
    monkeypatch.setattr(checks, "look_at_topic", lambda *_: names.append("looked at the topic"))
    monkeypatch.setattr(checks, "look_at_tables", lambda *_: names.append("looked at the tables"))
    hook = SimpleNamespace(subscriber_client=None)
    monkeypatch.setattr("airflow.providers.google.cloud.hooks.pubsub.PubSubHook", lambda gcp_conn_id: hook)
    monkeypatch.setattr(bigtable, "ensure_served", lambda client, instance, table: names.append(f"{instance}/{table}"))
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", '{"conn_type": "google_cloud_platform"}')
    hooks = "airflow.providers.google.common.hooks.base_google.GoogleBaseHook"
    monkeypatch.setattr(f"{hooks}.get_credentials", lambda self: None)
    monkeypatch.setattr("google.cloud.bigtable.Client", SimpleNamespace)
    return names


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pub/Sub, where the stream's subscription had lost its topic."""
    hook = SimpleNamespace(get_conn=lambda: None, subscriber_client=None)
    monkeypatch.setattr("airflow.providers.google.cloud.hooks.pubsub.PubSubHook", lambda gcp_conn_id: hook)
    monkeypatch.setattr("rejeu.gcp.topics.ensure_topic", lambda *_: "it was cut off")


@pytest.mark.usefixtures("cut_off")
def test_rows_that_went_where_nobody_reads_are_an_incident(spec: StreamSpec, store: MemoryStore) -> None:
    stream = spec.stream
    store.save(stream, StreamState(stream=stream).model_dump(mode="json"), None)
    ENSURE_TOPIC(EnsureStream(task_id="ensure", spec=spec), a_run())
    state = read_state(store, stream)
    assert state is not None
    (incident,) = state.incidents
    assert (incident.cause, incident.lossy, incident.dag_run_id) == ("it was cut off", True, "run-1")


@pytest.mark.usefixtures("cut_off")
def test_a_stream_that_never_ran_has_lost_nothing(spec: StreamSpec, store: MemoryStore) -> None:
    ENSURE_TOPIC(EnsureStream(task_id="ensure", spec=spec), a_run())
    assert store.names() == []


def ensure(spec: StreamSpec) -> None:
    EnsureStream(task_id="ensure", spec=spec).execute(a_run())


def test_topic_and_tables_are_made_sure_of(spec: StreamSpec, made: list[str]) -> None:
    ensure(spec)
    assert made == [*LOOKED, "topic", "tables"]


def test_where_the_target_has_bigtable_so_is_the_table_that_is_served(
    spec: StreamSpec, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REJEU_BIGTABLE", "serving")
    ensure(spec)
    assert made == [*LOOKED, "topic", "tables", "serving/site_access"]


def test_a_stream_that_is_not_served_has_no_table_there(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REJEU_BIGTABLE", "serving")
    monkeypatch.setattr(checks, "look_at_source", lambda *_: "it is there")
    ensure(read_spec(STREAMS / "crypto_rates.yaml"))
    assert made == [*LOOKED, "topic", "tables"]


def test_a_simulator_is_refused_in_production(
    spec: StreamSpec, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REJEU_PRODUCTION", "true")
    with pytest.raises(RequestError, match="REJEU_PRODUCTION marks this target"):
        ensure(spec)
    assert made == []


def test_a_simulators_wrong_option_is_refused_before_anything_is_made(made: list[str], tmp_path: Path) -> None:
    text = (
        (STREAMS / "site_access.yaml").read_text().replace("generator: site_access", "generator: site_access:doors=2")
    )
    (tmp_path / "site_access.yaml").write_text(text)
    with pytest.raises(RequestError, match="--generator site_access: doors: Extra inputs are not permitted"):
        ensure(read_spec(tmp_path / "site_access.yaml"))
    assert made == []


def test_where_the_source_is_not_there_nothing_is_made(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_: object) -> str:
        raise SourceError("crypto_rates: crypto_band.oracle_requests cannot be read")

    monkeypatch.setattr(checks, "look_at_source", look)
    spec = read_spec(STREAMS / "crypto_rates.yaml")
    with pytest.raises(SourceError, match="oracle_requests cannot be read"):
        ensure(spec)
    assert made == []
    # A batch needs its files, and the source only later.
    EnsureStream(task_id="ensure", spec=spec, asks_source=False).execute(a_run())
    assert made == [*LOOKED, "topic", "tables"]


def test_a_topic_that_a_stream_without_a_spec_still_feeds_is_refused(
    spec: StreamSpec, made: list[str], store: MemoryStore, target: Target
) -> None:
    renamed_from = spec.model_copy(update={"stream": "old_name"})
    ensure(renamed_from)
    made.clear()
    announce(store, replay_request(renamed_from, target, None, None))
    with pytest.raises(RequestError, match=r"is also live\.table of the stream old_name, which is wanted"):
        ensure(spec)
    assert made == []


def test_the_spec_is_remembered_before_anything_is_made_for_it(
    spec: StreamSpec, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[LiveRecord | None] = []
    monkeypatch.setattr(
        EnsureStream, "ensure_topic", lambda self, context: known.append(read_record(store, spec.stream))
    )
    ensure(spec)
    [record] = known
    assert record is not None
    assert spec_of(record) == spec


@pytest.mark.parametrize("asks_source", [True, False])
def test_live_refuses_to_start_while_its_watchdog_is_paused_and_says_what_to_do(
    spec: StreamSpec, made: list[str], asks_source: bool
) -> None:
    task = FakeTask()
    task.paused.add(f"{spec.stream}.watchdog")
    ensure = EnsureStream(task_id="ensure", spec=spec, asks_source=asks_source)
    if not asks_source:  # a batch is loaded, watched or not
        ensure.execute(a_run() | {"ti": task})
        return
    with pytest.raises(AirflowFailException, match=r"airflow dags unpause site_access\.watchdog"):
        ensure.execute(a_run() | {"ti": task})
    assert made == []


def test_live_starts_where_airflow_does_not_know_the_watchdog_yet(spec: StreamSpec, made: list[str]) -> None:
    task = FakeTask()
    task.missing.add(f"{spec.stream}.watchdog")
    EnsureStream(task_id="ensure", spec=spec).execute(a_run() | {"ti": task})
    assert "topic" in made
