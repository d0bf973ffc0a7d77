"""`rejeu incidents` and the query behind it, against a real BigQuery emulator and the table as the stack makes it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.cloud import bigquery

from rejeu import cli
from rejeu.bigquery import sql
from rejeu.bigquery.ensure import ensure_table
from rejeu.bigquery.incidents import recent_incidents
from rejeu.bigquery.records import IncidentRow
from rejeu.ports import StateStore
from rejeu.state import open_store
from rejeu.state.model import Incident, StreamState
from rejeu.target import Target

pytestmark = pytest.mark.emulated

TYPES = {column.name: column.type for column in IncidentRow.columns()}
EMPTY = Target(project="rejeu-test", dataset="incidents_empty")
NOON = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)
FIRST: dict[str, Any] = {
    "stream": "crypto_rates",
    "lost_at": NOON,
    "detected_at": NOON.replace(second=5),
    "relaunched_at": NOON.replace(second=7),
    "resumed_at": NOON.replace(second=9),
    "ended_by": "signal",
    "gap_seconds": 9.0,
    "cause": "the replay died: its lease ran out: epoch 3 was last heard of at 11:59 [and no more]",
    "rows_owed": 1118,
    "rows_lost": 0,
    "probe": "heartbeat",
    "launcher": "process",
    "dag_run_id": "asset-1",
}
SECOND = FIRST | {"lost_at": NOON.replace(hour=13), "gap_seconds": 1.5, "rows_owed": None, "rows_lost": None}
OTHER = FIRST | {"stream": "iot_sensors", "lost_at": NOON.replace(hour=14)}


@pytest.fixture(scope="module")
def target(client: bigquery.Client) -> Target:
    """A target whose table has three incidents, and an empty one beside it."""
    full = Target(project="rejeu-test", dataset="incidents_full")
    for each in (full, EMPTY):
        ensure_table(client, each, each.incidents, IncidentRow.columns(), IncidentRow.DAY)
    for row in (SECOND, OTHER, FIRST):
        parameters = [bigquery.ScalarQueryParameter(name, TYPES[name], value) for name, value in row.items()]
        statement = sql.insert_once(full.incidents, list(TYPES), IncidentRow.KEY)
        client.query(statement, job_config=bigquery.QueryJobConfig(query_parameters=parameters)).result()
    return full


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateStore:
    """A state store of the test's own, which the environment names."""
    monkeypatch.setenv("REJEU_STATE", f"sqlite:{tmp_path}/state.db")
    return open_store(f"sqlite:{tmp_path}/state.db")


@pytest.fixture
def environment(target: Target, store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that works with this target, in a narrow terminal."""
    monkeypatch.setenv("REJEU_PROJECT", target.project)
    monkeypatch.setenv("REJEU_DATASET", target.dataset)
    monkeypatch.setenv("COLUMNS", "80")


def rows(*columns: dict[str, Any]) -> list[IncidentRow]:
    return [IncidentRow.model_validate(each) for each in columns]


# The query


def test_the_newest_incident_comes_first(client: bigquery.Client, target: Target) -> None:
    assert recent_incidents(client, target.incidents, None, 20) == rows(OTHER, SECOND, FIRST)


def test_one_streams_incidents_are_its_own(client: bigquery.Client, target: Target) -> None:
    assert recent_incidents(client, target.incidents, "crypto_rates", 20) == rows(SECOND, FIRST)


def test_no_more_come_than_asked_for(client: bigquery.Client, target: Target) -> None:
    assert recent_incidents(client, target.incidents, None, 2) == rows(OTHER, SECOND)


@pytest.mark.parametrize("table", ["rejeu-test.incidents_full.never_made", "rejeu-test.never_made.incidents"])
@pytest.mark.usefixtures("target")
def test_no_table_is_not_the_same_as_no_incident(client: bigquery.Client, table: str) -> None:
    assert recent_incidents(client, table, None, 20) is None
    assert recent_incidents(client, EMPTY.incidents, None, 20) == []


# The command


@pytest.mark.usefixtures("environment")
def test_a_person_reads_a_table_that_fits_into_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["incidents"]) == 0
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    heads = [line.split() for line in out.splitlines() if "2026-" in line]
    assert [line[:3] for line in heads] == [
        ["iot_sensors", "2026-11-20", "14:00:00"],
        ["crypto_rates", "2026-11-20", "13:00:00"],
        ["crypto_rates", "2026-11-20", "12:00:00"],
    ]
    assert heads[0][3:7] == ["9.0", "s", "1,118", "0"]
    assert heads[1][3:6] == ["1.5", "s", "the"], "what nobody knows is left empty"
    assert out.count("[and no more]") == 3


@pytest.mark.usefixtures("environment")
def test_a_program_reads_every_column_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["incidents", "iot_sensors", "--json"]) == 0
    [row] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert list(row) == list(TYPES)
    assert row["lost_at"] == "2026-11-20T14:00:00.250000Z"
    assert (row["stream"], row["gap_seconds"], row["rows_owed"]) == ("iot_sensors", 9.0, 1118)


@pytest.mark.usefixtures("environment")
def test_a_silence_that_lasts_is_shown_from_its_first_death(
    store: StateStore, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = Incident(
        lost_at=NOON, detected_at=NOON, relaunched_at=NOON, cause="no such table", probe="heartbeat", dag_run_id="run-1"
    )
    for stream, fields in {
        "crypto_rates": {"incidents": (crash,)},
        "iot_sensors": {"incidents": (crash,), "wanted": False},
        "clickstream": {"incidents": (crash.model_copy(update={"recorded": True}),)},
    }.items():
        state = StreamState(stream=stream).model_copy(update=fields)
        store.save(stream, state.model_dump(mode="json"), None)
    assert cli.main(["incidents", "--limit", "1"]) == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert "crypto_rates: silent since 2026-11-20 12:00:00 UTC, relaunched 1 times so far: no such table" in said
    assert said.count("silent since") == 1
    assert cli.main(["incidents", "--limit", "1", "--json"]) == 0
    lasting, _ = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert list(lasting) == list(TYPES)
    assert (lasting["stream"], lasting["lost_at"]) == ("crypto_rates", "2026-11-20T12:00:00.250000Z")
    assert (lasting["resumed_at"], lasting["rows_lost"]) == (None, None)


@pytest.mark.usefixtures("environment")
def test_the_limit_holds_for_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["incidents", "--limit", "1", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("incidents_empty", "no incident in rejeu-test.incidents_empty.incidents\n"),
        ("never_made", "no incident yet: rejeu-test.never_made.incidents comes with a stream's first live run\n"),
    ],
)
def test_nothing_to_show_is_no_failure(
    dataset: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REJEU_DATASET", dataset)
    assert cli.main(["incidents"]) == 0
    assert capsys.readouterr().out == said
    assert cli.main(["incidents", "--json"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_a_limit_is_a_count(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["incidents", f"--limit={limit}"])
    assert caught.value.code == 2
    assert "it must be a whole number above 0" in capsys.readouterr().err.replace("\n", " ")


def test_without_a_project_the_local_stack_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("REJEU_PROJECT", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["incidents"]) == 9
    assert "start it with `rejeu up`" in capsys.readouterr().err
