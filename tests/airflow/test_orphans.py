"""A stream whose spec breaks, is renamed or vanishes while it is live: the patrol repairs it, and tells a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from rejeu.airflow.dags.patrol import build_patrol
from rejeu.airflow.operators import patrol
from rejeu.airflow.operators.patrol import LookAround, RepairOrphan, orphan, watchdog_run
from rejeu.jobs.build import replay_request, stream_job_request
from rejeu.jobs.request import CURSOR, ReplayRequest
from rejeu.orphans import telling
from rejeu.orphans.telling import to_be_told
from rejeu.ports import EndedBy, JobState
from rejeu.spec.model import StreamSpec
from rejeu.state.documents import SideDocument
from rejeu.state.lease import read_state
from rejeu.state.live_record import read_record, remember_live
from rejeu.state.model import End, Incident, StreamState
from rejeu.state.stream import mark_unwanted
from rejeu.target import Target
from rejeu.testing import FakeLauncher, MemoryStore
from tests.airflow.builders import OTHER, STREAM, STREAM_JOB, FakeBigQuery, FakeTask, a_run, ago, alive, dead, remember

NOW = datetime.now(UTC)


@pytest.fixture
def task() -> FakeTask:
    return FakeTask()


@pytest.fixture(autouse=True)
def own_store(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patrol, "open_store", lambda uri: store)


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subjects that a person was told."""
    subjects: list[str] = []
    monkeypatch.setattr(patrol, "notify", lambda context, subject, text, **facts: subjects.append(subject))
    monkeypatch.setattr(telling, "SURE", timedelta(0))
    return subjects


@pytest.fixture
def request_of(spec: StreamSpec, target: Target) -> ReplayRequest:
    """The replay that was started when the stream went live."""
    return replay_request(spec, target, None, None)


@pytest.fixture
def was_live(
    spec: StreamSpec, target: Target, store: MemoryStore, launcher: FakeLauncher, request_of: ReplayRequest
) -> None:
    """The stream went live, its streaming job reads, and its replay was killed while rows were due."""
    remember_live(store, spec, target)
    remember(store, **dead(request=tuple(request_of.to_argv())))
    job = stream_job_request(spec, target)
    launcher.start(job)
    launcher.end(job.job_name, JobState.RUNNING)
    launcher.started.clear()


def look(task: FakeTask, *specs: StreamSpec) -> list[dict[str, Any]]:
    looking = LookAround(task_id="look", folders=())
    looking.specs = list(specs)
    return looking.execute({"ti": task})  # type: ignore[typeddict-item]


def repair(stream: str = STREAM) -> None:
    RepairOrphan(task_id="repair_orphan", stream=stream).execute(a_run())


def state_of(store: MemoryStore) -> StreamState:
    state = read_state(store, STREAM)
    assert state is not None
    return state


# What is found


@pytest.mark.usefixtures("was_live")
def test_a_wanted_stream_whose_spec_is_gone_is_repaired_all_the_same(task: FakeTask) -> None:
    assert look(task) == [{"orphan": STREAM}]


@pytest.mark.usefixtures("was_live")
def test_a_stream_with_a_valid_spec_is_left_to_its_own_watchdog(task: FakeTask, spec: StreamSpec) -> None:
    assert [entry["trigger_dag_id"] for entry in look(task, spec)] == [f"{STREAM}.watchdog"]


@pytest.mark.usefixtures("was_live")
def test_one_that_was_stopped_is_left_alone(task: FakeTask, store: MemoryStore, told: list[str]) -> None:
    mark_unwanted(store, STREAM)
    assert (look(task), told) == ([], [])


@pytest.mark.usefixtures("was_live")
def test_one_that_lives_needs_no_repair(task: FakeTask, store: MemoryStore) -> None:
    remember(store, **alive())
    assert look(task) == []


def test_a_replay_by_hand_never_went_live_and_is_nobodys_orphan(
    task: FakeTask, store: MemoryStore, told: list[str]
) -> None:
    remember(store, **dead(request=("--topic=t",)))
    assert (look(task), told) == ([], [])


@pytest.mark.usefixtures("was_live")
def test_one_whose_watchdog_somebody_had_paused_is_left_alone(task: FakeTask) -> None:
    task.paused.add(f"{STREAM}.watchdog")
    assert look(task) == []


@pytest.mark.usefixtures("was_live")
def test_one_that_airflow_has_forgotten_is_repaired(task: FakeTask) -> None:
    task.missing.add(f"{STREAM}.watchdog")
    assert look(task) == [{"orphan": STREAM}]


@pytest.mark.usefixtures("was_live")
def test_what_cannot_be_read_of_one_hides_no_other(
    task: FakeTask, store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.save(SideDocument.LIVE.of("bikes"), {"spec": {"newer": True}}, None)
    store.save("bikes", StreamState(stream="bikes").model_dump(mode="json"), None)
    store.save(SideDocument.LIVE.of("clicks"), {"spec": {}}, None)
    store.save("clicks", {"epoch": "many"}, None)
    assert look(task) == [{"orphan": STREAM}]


@pytest.mark.usefixtures("was_live")
@pytest.mark.parametrize("broken", [{"orphans": "none"}, {"schema_version": 2, "orphans": {}}])
def test_what_the_patrol_cannot_remember_keeps_no_stream_from_its_repair(
    task: FakeTask, store: MemoryStore, broken: dict[str, Any]
) -> None:
    store.save(telling.DOCUMENT, broken, None)
    assert look(task) == [{"orphan": STREAM}]


def test_a_store_that_is_away_for_them_keeps_nobody_with_a_spec_waiting(
    task: FakeTask, spec: StreamSpec, store: MemoryStore
) -> None:
    remember(store, **dead(request=("--topic=t",)))
    store.save(telling.DOCUMENT, {"orphans": "none"}, None)
    assert [entry["trigger_dag_id"] for entry in look(task, spec)] == [f"{STREAM}.watchdog"]


def test_a_stream_that_an_older_rejeu_brought_live_gets_its_record(
    task: FakeTask, spec: StreamSpec, store: MemoryStore
) -> None:
    remember(store, **alive())
    look(task, spec)
    assert read_record(store, STREAM) is not None


# What a person is told


@pytest.mark.usefixtures("was_live")
def test_a_person_is_told_once_and_not_every_minute(task: FakeTask, told: list[str]) -> None:
    for _ in range(3):
        look(task)
    assert told == [f"1 of the streams that are live has no valid spec: {STREAM}"]


def test_an_orphan_is_told_once_it_is_sure_and_again_the_next_day(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "SURE", timedelta(seconds=30))

    def told_after(**passed: float) -> list[str]:
        return to_be_told(store, ["b", "a"], NOW + timedelta(**passed))

    assert [told_after(), told_after(seconds=29)] == [[], []]
    assert told_after(seconds=60) == ["a", "b"]
    assert [told_after(minutes=2), told_after(hours=23)] == [[], []]
    assert told_after(hours=25) == ["a", "b"]


def test_one_that_had_a_spec_in_between_is_told_anew(store: MemoryStore) -> None:
    assert to_be_told(store, ["a"], NOW) == ["a"]
    assert to_be_told(store, [], NOW) == []
    assert to_be_told(store, ["a"], NOW) == ["a"]


# What is repaired


@pytest.mark.usefixtures("was_live")
def test_its_replay_goes_on_at_its_cursor_with_the_stored_arguments(
    store: MemoryStore, launcher: FakeLauncher, request_of: ReplayRequest, made_sure: list[str]
) -> None:
    repair()
    [started] = launcher.started
    assert isinstance(started, ReplayRequest)
    assert started == request_of.model_copy(update={"from_": CURSOR})
    [incident] = state_of(store).incidents
    assert (incident.attempts, incident.dag_run_id, state_of(store).epoch) == (1, "run-1", 4)
    assert made_sure == [STREAM]


@pytest.mark.usefixtures("was_live")
def test_its_streaming_job_is_started_and_not_waited_for(
    store: MemoryStore, launcher: FakeLauncher, spec: StreamSpec, target: Target
) -> None:
    remember(store, **alive())
    launcher.end(STREAM_JOB, JobState.FAILED)
    repair()
    assert launcher.started == [stream_job_request(spec, target)]
    assert launcher.jobs[STREAM_JOB].state is JobState.STARTING


@pytest.mark.usefixtures("was_live")
def test_an_incident_that_is_over_is_recorded(
    task: FakeTask, store: MemoryStore, bigquery: FakeBigQuery, launcher: FakeLauncher
) -> None:
    over = Incident(
        lost_at=ago(60),
        detected_at=ago(55),
        relaunched_at=ago(50),
        cause="it died",
        probe="heartbeat",
        dag_run_id="patrol-1",
        end=End(at=ago(40), by=EndedBy.SIGNAL, rows_owed=3),
    )
    remember(store, **alive(incidents=(over,)))
    assert look(task) == [{"orphan": STREAM}]
    repair()
    assert state_of(store).incidents[-1].recorded
    assert [parameters["rows_owed"] for _, parameters in bigquery.asked] == [3]
    assert launcher.started == []


@pytest.mark.usefixtures("was_live")
def test_relaunches_that_do_not_help_fail_the_task(
    store: MemoryStore, launcher: FakeLauncher, request_of: ReplayRequest
) -> None:
    tried = Incident(
        lost_at=ago(60), detected_at=ago(55), cause="it died", probe="heartbeat", dag_run_id="r", attempts=99
    )
    remember(store, **dead(request=tuple(request_of.to_argv()), incidents=(tried,)))
    with pytest.raises(AirflowFailException, match="crash loop"):
        repair()
    assert launcher.started == []


@pytest.mark.usefixtures("was_live")
def test_one_that_is_well_again_is_left_alone(store: MemoryStore, launcher: FakeLauncher) -> None:
    remember(store, **alive())
    repair()
    assert (launcher.started, launcher.stopped) == ([], [])


def test_one_that_was_removed_meanwhile_is_skipped() -> None:
    with pytest.raises(AirflowSkipException):
        repair()


# The DAG


def test_each_entry_of_the_look_goes_to_its_own_task(target: Target) -> None:
    dag = build_patrol([], target)
    assert dag.get_task("repair_orphan").upstream_task_ids == {"look"}
    of_watchdog, of_orphan = {"trigger_dag_id": f"{OTHER}.watchdog", "conf": {}}, {"orphan": STREAM}
    assert (watchdog_run(of_watchdog), orphan(of_orphan)) == (of_watchdog, STREAM)
    with pytest.raises(AirflowSkipException):
        watchdog_run(of_orphan)
    with pytest.raises(AirflowSkipException):
        orphan(of_watchdog)
