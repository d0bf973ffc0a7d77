"""The task `record_incident` of `<stream>.watchdog`: one row a silence, told to a person once it is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from rejeu.airflow.operators import watchdog
from rejeu.airflow.operators.watchdog import RecordIncident
from rejeu.ports import EndedBy, Signal, Verdict
from rejeu.spec.model import StreamSpec
from rejeu.state.lease import read_state
from rejeu.state.model import End, Incident, StreamState
from rejeu.state.stream import mark_unwanted
from rejeu.testing import FakeProbe, MemoryStore
from rejeu.timeline import Position, format_instant, parse_instant
from tests.airflow.builders import STREAM, FakeBigQuery, a_run, alive, dead, remember

LOST = parse_instant("2026-11-20T12:00:00Z")
RESUMED = parse_instant("2026-11-20T12:00:09.25Z")
INCIDENT = Incident(
    lost_at=LOST,
    detected_at=parse_instant("2026-11-20T12:00:05Z"),
    relaunched_at=parse_instant("2026-11-20T12:00:07Z"),
    cause="the replay died: its lease ran out",
    probe="heartbeat",
    dag_run_id="asset-1",
)
EARLIER = INCIDENT.model_copy(
    update={
        "lost_at": parse_instant("2026-11-20T11:00:00Z"),
        "dag_run_id": "asset-0",
        "end": End(at=parse_instant("2026-11-20T11:00:03Z"), by=EndedBy.SIGNAL, rows_owed=7),
    }
)

Told = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def record(spec: StreamSpec, bigquery: FakeBigQuery) -> RecordIncident:
    return RecordIncident(task_id="record_incident", spec=spec)


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What a person was told: the subject and the facts."""
    heard: Told = []
    monkeypatch.setattr(watchdog, "notify", lambda context, subject, text, **facts: heard.append((subject, facts)))
    return heard


def known(store: MemoryStore) -> StreamState:
    state = read_state(store, STREAM)
    assert state is not None
    return state


def test_an_incident_is_one_row_that_says_what_was_lost_and_when(
    record: RecordIncident, store: MemoryStore, bigquery: FakeBigQuery
) -> None:
    remember(store, **alive(resumed_at=RESUMED, owed=118, incidents=(INCIDENT,)))
    (row,) = record.execute(a_run(run_id="asset-2"))
    assert row == {
        "stream": STREAM,
        "lost_at": "2026-11-20T12:00:00.000000Z",
        "detected_at": "2026-11-20T12:00:05.000000Z",
        "relaunched_at": "2026-11-20T12:00:07.000000Z",
        "resumed_at": "2026-11-20T12:00:09.250000Z",
        "ended_by": "signal",
        "gap_seconds": 9.25,
        "cause": "the replay died: its lease ran out",
        "rows_owed": 118,
        "rows_lost": 0,
        "probe": "heartbeat",
        "launcher": "process",
        "dag_run_id": "asset-1",
    }
    ((statement, parameters),) = bigquery.asked
    assert "INSERT INTO `rejeu-test.rejeu.incidents`" in statement
    assert set(parameters) == set(row)
    assert (parameters["lost_at"], parameters["resumed_at"], parameters["rows_owed"]) == (LOST, RESUMED, 118)


def test_every_incident_that_is_over_is_a_row_with_an_end_of_its_own(
    record: RecordIncident, store: MemoryStore, bigquery: FakeBigQuery
) -> None:
    remember(store, **alive(resumed_at=RESUMED, owed=118, incidents=(EARLIER, INCIDENT)))
    rows = record.execute(a_run())
    assert [(row["dag_run_id"], row["gap_seconds"], row["rows_owed"]) for row in rows] == [
        ("asset-0", 3.0, 7),
        ("asset-1", 9.25, 118),
    ]
    assert [parameters["dag_run_id"] for _, parameters in bigquery.asked] == ["asset-0", "asset-1"]


def test_while_a_silence_lasts_only_those_before_it_are_recorded(record: RecordIncident, store: MemoryStore) -> None:
    remember(store, **dead(incidents=(EARLIER, INCIDENT), cursor=Position(7, 1)))
    assert [row["dag_run_id"] for row in record.execute(a_run())] == ["asset-0"]
    assert known(store).incidents == (INCIDENT,)
    with pytest.raises(AirflowSkipException, match="no silence has ended: silent"):
        record.execute(a_run())


def test_what_is_recorded_is_not_recorded_again(
    record: RecordIncident, store: MemoryStore, bigquery: FakeBigQuery, told: Told
) -> None:
    remember(store, **alive(resumed_at=RESUMED, incidents=(INCIDENT,)))
    record.execute(a_run())
    with pytest.raises(AirflowSkipException, match="no silence has ended: flowing"):
        record.execute(a_run())
    assert (len(bigquery.asked), len(told)) == (1, 1)


@pytest.mark.parametrize("incidents", [(), None])
def test_a_stream_without_a_silence_has_nothing_to_record(
    record: RecordIncident, store: MemoryStore, bigquery: FakeBigQuery, incidents: tuple[()] | None
) -> None:
    if incidents is not None:
        remember(store, **alive())
    with pytest.raises(AirflowSkipException, match="no silence has ended"):
        record.execute(a_run())
    assert bigquery.asked == []


def test_a_row_that_could_not_be_written_is_written_by_the_next_try(
    record: RecordIncident, store: MemoryStore, bigquery: FakeBigQuery, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Iterator[Any]:
        raise ConnectionError("BigQuery is away")

    remember(store, **alive(resumed_at=RESUMED, incidents=(INCIDENT,)))
    with monkeypatch.context() as away:
        away.setattr(bigquery, "query", lambda *_, **__: SimpleNamespace(result=refuse))
        with pytest.raises(ConnectionError):
            record.execute(a_run())
    assert (known(store).incidents, told) == ((INCIDENT,), [])
    assert len(record.execute(a_run())) == 1


def test_a_person_is_told_with_all_that_the_row_says(record: RecordIncident, store: MemoryStore, told: Told) -> None:
    remember(store, **alive(resumed_at=RESUMED, incidents=(INCIDENT,)))
    (row,) = record.execute(a_run())
    assert told == [(f"{STREAM}: the signal was gone for 9.2 s and is back", row)]


# Rows that are not counted


def test_what_somebody_skipped_who_began_anew_elsewhere_is_not_counted(
    record: RecordIncident, store: MemoryStore
) -> None:
    remember(store, **alive(resumed_at=RESUMED, since=Position(7, 0), incidents=(INCIDENT,)))
    assert record.execute(a_run())[0]["rows_lost"] is None


def test_a_silence_that_a_person_ended_ends_with_the_stop(record: RecordIncident, store: MemoryStore) -> None:
    remember(store, **dead(incidents=(INCIDENT,)))
    mark_unwanted(store, STREAM)
    (row,) = record.execute(a_run())
    end = known(store).incidents[0].end
    assert end is not None
    assert (row["resumed_at"], row["ended_by"]) == (format_instant(end.at), "stop")


def test_a_silence_whose_replay_has_said_nothing_yet_is_not_recorded(
    record: RecordIncident, store: MemoryStore, bigquery: FakeBigQuery
) -> None:
    remember(store, **alive(status_at=datetime.now(UTC), last_published=LOST, next_due=None, incidents=(INCIDENT,)))
    with pytest.raises(AirflowSkipException, match="no silence has ended"):
        record.execute(a_run())
    assert (known(store).incidents, bigquery.asked) == ((INCIDENT,), [])


def test_a_silence_of_somebody_else_ends_with_the_message_that_the_probe_saw(
    foreign_spec: StreamSpec, store: MemoryStore, bigquery: FakeBigQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = INCIDENT.model_copy(update={"relaunched_at": None, "probe": "tap", "attempts": 0})
    remember(store, incidents=(noted,))
    back = Verdict(Signal.FLOWING, last_seen=RESUMED, probe="tap")
    monkeypatch.setattr("rejeu.watchdog.probes.tap.TapProbe", lambda *_: FakeProbe([back]))
    (row,) = RecordIncident(task_id="record_incident", spec=foreign_spec).execute(a_run())
    assert (row["resumed_at"], row["gap_seconds"]) == ("2026-11-20T12:00:09.250000Z", 9.25)
    assert (row["probe"], row["relaunched_at"], row["rows_owed"], row["rows_lost"]) == ("tap", None, None, None)
