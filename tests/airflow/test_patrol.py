"""`rejeu.patrol`: what it finds, whom it calls and whom it leaves alone, and that no alert is lost on the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.serialization.serialized_objects import DagSerialization
from google.api_core.exceptions import ServiceUnavailable

from docs.generate.dags import STREAMS
from rejeu.airflow.dags.patrol import PATROL, build_patrol
from rejeu.airflow.operators import patrol
from rejeu.airflow.operators.patrol import AcknowledgeAlerts, LookAround
from rejeu.airflow.operators.watchdog import RUNS
from rejeu.errors import LaunchError, RejeuError, StateError
from rejeu.gcp import alerts
from rejeu.gcp.alerts import Alert
from rejeu.jobs.build import stream_job_request
from rejeu.ports import Job, JobState, Missing, Signal, Verdict
from rejeu.spec.model import StreamSpec
from rejeu.state.model import Incident
from rejeu.state.watch_note import Blindness, note_blind, note_sight
from rejeu.target import Target
from rejeu.testing import FakeLauncher, MemoryStore
from rejeu.timeline import parse_instant
from tests.airflow.builders import OTHER, STREAM, FakeTask, ago, alive, dead, remember

SUBSCRIPTION = "projects/rejeu-test/subscriptions/rejeu-alerts-patrol"


class FakeAlerts:
    """A subscription that gives what was not acknowledged."""

    def __init__(self) -> None:
        self.waiting: list[Alert] = []

    def pull(self, subscriber: object, subscription: str) -> list[Alert]:
        assert subscription == SUBSCRIPTION
        return list(self.waiting)

    def acknowledge(self, subscriber: object, subscription: str, ack_ids: Sequence[str]) -> None:
        assert subscription == SUBSCRIPTION
        self.waiting = [alert for alert in self.waiting if alert.ack_id not in ack_ids]


@pytest.fixture
def task() -> FakeTask:
    return FakeTask()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> FakeAlerts:
    """The alerts that a deployment with REJEU_ALERTS hears."""
    fake = FakeAlerts()
    monkeypatch.setenv("REJEU_ALERTS", SUBSCRIPTION.rpartition("/")[2])
    monkeypatch.setattr(patrol.PatrolOperator, "subscriber", lambda self: None)
    monkeypatch.setattr(alerts, "pull_alerts", fake.pull)
    monkeypatch.setattr(alerts, "acknowledge", fake.acknowledge)
    return fake


@pytest.fixture(autouse=True)
def own_store(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store of the other operators is the patrol's, too."""
    monkeypatch.setattr(patrol, "open_store", lambda uri: store)


@pytest.fixture(autouse=True)
def streaming_job(launcher: FakeLauncher, spec: StreamSpec, target: Target) -> str:
    """The stream's job, which reads."""
    request = stream_job_request(spec, target)
    launcher.start(request)
    launcher.end(request.job_name, JobState.RUNNING)
    return request.job_name


@pytest.fixture
def other(spec_with: Callable[..., StreamSpec]) -> StreamSpec:
    """A second stream, of the same topic."""
    return spec_with(stream=OTHER)


def look(task: FakeTask, *specs: StreamSpec) -> list[dict[str, Any]]:
    """What `look` hands to `repair`, as it comes out of Airflow's database."""
    looking = LookAround(task_id="look", folders=())
    looking.specs = list(specs)
    found = looking.execute({"ti": task})  # type: ignore[typeddict-item]
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def called(entries: Iterable[dict[str, Any]]) -> list[str]:
    return [entry["trigger_dag_id"] for entry in entries]


def an_incident(**fields: Any) -> Incident:
    seen = {"lost_at": ago(60), "detected_at": ago(55), "relaunched_at": ago(50), "cause": "it died"}
    return Incident(**{**seen, "probe": "heartbeat", "dag_run_id": "asset-1", **fields})


def verdicts(monkeypatch: pytest.MonkeyPatch, by_stream: dict[str, Verdict | Exception]) -> None:
    """Let each stream be seen as a test wants it."""

    class Told:
        def __init__(self, plan: Any) -> None:
            self.verdict = by_stream[plan.stream]

        def look(self, now: Any) -> Verdict:
            if isinstance(self.verdict, Exception):
                raise self.verdict
            return self.verdict

    monkeypatch.setattr(patrol, "Watch", Told)


# What is found


def test_a_silent_stream_gets_a_run_of_its_watchdog_which_is_told_what_was_seen(
    task: FakeTask, spec: StreamSpec, store: MemoryStore
) -> None:
    state = remember(store, **dead(request=("--topic=t",)))
    [entry] = look(task, spec)
    assert entry["trigger_dag_id"] == "crypto_rates.watchdog"
    conf = entry["conf"]
    assert (conf["seen_by"], conf["stream"], conf["signal"]) == ("patrol", STREAM, "SILENT")
    assert parse_instant(conf["lost_at"]) == state.next_due


def test_no_error_text_is_told_for_airflow_would_render_it(
    task: FakeTask, spec: StreamSpec, store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(store, **dead(request=("--topic=t",), error="row 7 is {{ bad }}"))
    [entry] = look(task, spec)
    assert "{{" not in json.dumps(entry)
    assert "row 7 is {{ bad }}" in capsys.readouterr().out


def test_a_stream_that_lives_is_left_alone(task: FakeTask, spec: StreamSpec, store: MemoryStore) -> None:
    remember(store, **alive())
    assert look(task, spec) == []


def test_a_quiet_stretch_of_the_source_is_not_silence(task: FakeTask, spec: StreamSpec, store: MemoryStore) -> None:
    remember(store, **dead(next_due=ago(-60)))
    assert look(task, spec) == []


def test_a_stream_that_was_stopped_is_left_alone(task: FakeTask, spec: StreamSpec, store: MemoryStore) -> None:
    remember(store, **dead(wanted=False))
    assert look(task, spec) == []


def test_a_stream_that_never_ran_is_left_alone(task: FakeTask, spec: StreamSpec) -> None:
    assert look(task, spec) == []


def test_a_streaming_job_that_is_gone_is_brought_back(
    task: FakeTask, spec: StreamSpec, store: MemoryStore, launcher: FakeLauncher, streaming_job: str
) -> None:
    remember(store, **alive())
    launcher.stop(streaming_job)
    [entry] = look(task, spec)
    assert entry["conf"]["missing"] == [Missing.STREAM_JOB.name]


def test_an_incident_that_is_over_and_not_recorded_is_not_forgotten(
    task: FakeTask, spec: StreamSpec, store: MemoryStore
) -> None:
    remember(store, **alive(incidents=(an_incident(),), resumed_at=ago(45)))
    assert called(look(task, spec)) == ["crypto_rates.watchdog"]


def test_an_incident_that_is_recorded_needs_nobody(task: FakeTask, spec: StreamSpec, store: MemoryStore) -> None:
    remember(store, **alive(incidents=(an_incident(recorded=True),), resumed_at=ago(45)))
    assert look(task, spec) == []


def test_what_was_given_up_waits_for_a_person(task: FakeTask, spec: StreamSpec, store: MemoryStore) -> None:
    remember(store, **dead(incidents=(an_incident(given_up=True),)))
    assert look(task, spec) == []


def test_somebody_elses_silence_is_noted_once(
    task: FakeTask,
    spec_with: Callable[..., StreamSpec],
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    foreign = spec_with(replay=None, watchdog={"probe": "tap"})
    verdicts(monkeypatch, {STREAM: Verdict(Signal.SILENT, ago(90), ago(60), probe="tap")})
    remember(store, wanted=True)
    assert called(look(task, foreign)) == ["crypto_rates.watchdog"]
    remember(store, wanted=True, incidents=(an_incident(relaunched_at=None),))
    assert look(task, foreign) == []


# What cannot be looked at


@pytest.mark.parametrize("error", [StateError("the store is away"), OSError("no route")])
def test_a_stream_that_cannot_be_looked_at_does_not_hide_the_others(
    task: FakeTask, spec: StreamSpec, other: StreamSpec, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts(monkeypatch, {STREAM: error, OTHER: Verdict(Signal.SILENT, lost_at=ago(9))})
    assert called(look(task, spec, other)) == ["iot_sensors.watchdog"]


def test_a_look_that_sees_nothing_at_all_fails(
    task: FakeTask, spec: StreamSpec, other: StreamSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts(monkeypatch, dict.fromkeys((STREAM, OTHER), StateError("the store is away")))
    with pytest.raises(RejeuError, match="none of 2 streams can be looked at, the first for this: the store is away"):
        look(task, spec, other)


def test_a_watch_in_the_triggerer_that_cannot_look_is_said(
    task: FakeTask, spec: StreamSpec, store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(store, **alive())
    since = parse_instant("2026-11-20T12:00:00Z")
    note_blind(store, STREAM, Blindness(since=since, why="RequestError: another release wrote this"))
    look(task, spec)
    said = f"{STREAM}: the watch in the triggerer sees no silence since 2026-11-20 12:00:00 UTC: RequestError: another"
    assert said in capsys.readouterr().out
    note_sight(store, STREAM)
    look(task, spec)
    assert "sees no silence" not in capsys.readouterr().out


def test_a_launcher_that_hangs_hides_no_silence_and_is_said(
    task: FakeTask,
    spec: StreamSpec,
    store: MemoryStore,
    launcher: FakeLauncher,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    over = Event()
    for question in ("find", "find_active"):
        monkeypatch.setattr(launcher, question, lambda names: over.wait(300), raising=False)
    monkeypatch.setattr(patrol, "JOBS_SECONDS", 0.1, raising=False)
    remember(store, **dead(request=("--topic=t",)))
    assert called(look(task, spec)) == ["crypto_rates.watchdog"]
    over.set()
    assert "so one that is gone is not seen: no answer within 0.1 s" in capsys.readouterr().out


def test_a_launcher_that_refuses_hides_no_silence(
    task: FakeTask, spec: StreamSpec, store: MemoryStore, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(names: object) -> Any:
        raise LaunchError("403")

    monkeypatch.setattr(launcher, "find_active", refuse)
    remember(store, **dead(request=("--topic=t",)))
    assert called(look(task, spec)) == ["crypto_rates.watchdog"]


def test_the_launcher_is_asked_once_for_all_streams(
    task: FakeTask, spec: StreamSpec, other: StreamSpec, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[list[str]] = []
    find_active = launcher.find_active

    def note(names: Collection[str]) -> dict[str, Job]:
        questions.append([*names])
        return find_active(names)

    monkeypatch.setattr(launcher, "find_active", note)
    verdicts(monkeypatch, dict.fromkeys((STREAM, OTHER), Verdict(Signal.FLOWING)))
    assert called(look(task, spec, other)) == ["iot_sensors.watchdog"], "only the first has its job"
    assert questions == [["rejeu-stream-crypto-rates", "rejeu-stream-iot-sensors"]]


def test_what_was_seen_in_time_is_told_though_a_store_hangs(
    task: FakeTask, spec: StreamSpec, other: StreamSpec, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, load = Event(), store.load

    def hang(name: str) -> Any:
        if name == OTHER:
            over.wait(300)
            raise StateError("away")  # it is told to nobody any more
        return load(name)

    monkeypatch.setattr(store, "load", hang)
    monkeypatch.setattr(patrol, "LOOK_SECONDS", 1.0, raising=False)
    remember(store, **dead(request=("--topic=t",)))
    try:
        assert called(look(task, spec, other)) == ["crypto_rates.watchdog"]
    finally:
        over.set()


def test_a_deployment_without_streams_has_nothing_to_do(task: FakeTask) -> None:
    assert look(task) == []


# Who is called


def test_a_watchdog_at_work_is_not_called_again(task: FakeTask, spec: StreamSpec, store: MemoryStore) -> None:
    remember(store, **dead(request=("--topic=t",)))
    task.at_work["crypto_rates.watchdog"] = RUNS
    assert look(task, spec) == []
    remember(store, **alive(incidents=(an_incident(),), resumed_at=ago(45)))
    task.at_work["crypto_rates.watchdog"] = 1
    assert look(task, spec) == []


def test_a_silence_is_not_left_for_a_run_that_restores(task: FakeTask, spec: StreamSpec, store: MemoryStore) -> None:
    remember(store, **dead(request=("--topic=t",)))
    task.at_work["crypto_rates.watchdog"] = 1
    assert called(look(task, spec)) == ["crypto_rates.watchdog"]


def test_a_watchdog_that_is_paused_gathers_no_runs(task: FakeTask, spec: StreamSpec, store: MemoryStore) -> None:
    remember(store, **dead(request=("--topic=t",)))
    task.paused.add("crypto_rates.watchdog")
    assert look(task, spec) == []


def test_a_watchdog_that_airflow_does_not_know_yet_does_not_hide_the_others(
    task: FakeTask, spec: StreamSpec, other: StreamSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts(monkeypatch, dict.fromkeys((STREAM, OTHER), Verdict(Signal.SILENT, lost_at=ago(9))))
    task.missing.add("crypto_rates.watchdog")
    assert called(look(task, spec, other)) == ["iot_sensors.watchdog"]


# Alerts


def test_an_alert_calls_the_watchdogs_of_every_stream_of_its_topic(
    task: FakeTask, heard: FakeAlerts, spec: StreamSpec, other: StreamSpec
) -> None:
    heard.waiting = [Alert(spec.live.topic, "no request for 3 minutes", "ack-1")]
    entries = look(task, spec, other)
    assert called(entries) == ["crypto_rates.watchdog", "iot_sensors.watchdog"]
    assert [entry["conf"]["seen_by"] for entry in entries] == ["alert", "alert"]


def test_an_alert_is_kept_until_its_watchdogs_were_called(task: FakeTask, heard: FakeAlerts, spec: StreamSpec) -> None:
    heard.waiting = [Alert(spec.live.topic, "no request", "ack-1")]
    look(task, spec)
    assert [alert.ack_id for alert in heard.waiting] == task.pushed["alerts"] == ["ack-1"]
    AcknowledgeAlerts(task_id="acknowledge", ack_ids=task.pushed["alerts"]).execute({})  # type: ignore[typeddict-item]
    assert heard.waiting == []


def test_an_alert_that_calls_nobody_is_done_with(task: FakeTask, heard: FakeAlerts, spec: StreamSpec) -> None:
    task.at_work["crypto_rates.watchdog"] = 1
    heard.waiting = [Alert(spec.live.topic, "at work already", "ack-1"), Alert("another-topic", "not ours", "ack-2")]
    assert look(task, spec) == []
    assert heard.waiting == []


def test_what_the_patrol_saw_itself_says_more_than_the_alert(
    task: FakeTask, heard: FakeAlerts, spec: StreamSpec, store: MemoryStore
) -> None:
    remember(store, **dead(request=("--topic=t",)))
    heard.waiting = [Alert(spec.live.topic, "no request", "ack-1")]
    [entry] = look(task, spec)
    assert (entry["conf"]["seen_by"], task.pushed["alerts"]) == ("patrol", ["ack-1"])


@pytest.mark.parametrize("broken", ["pull_alerts", "acknowledge"])
def test_alerts_that_cannot_be_had_do_not_keep_the_patrol_from_its_work(
    task: FakeTask,
    heard: FakeAlerts,
    spec: StreamSpec,
    store: MemoryStore,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> list[Alert]:
        raise ServiceUnavailable("away")  # type: ignore[no-untyped-call]

    heard.waiting = [Alert("another-topic", "not ours", "ack-1")]
    monkeypatch.setattr(alerts, broken, fail)
    remember(store, **dead(request=("--topic=t",)))
    assert called(look(task, spec)) == ["crypto_rates.watchdog"]


def test_a_look_that_fails_takes_no_alert(
    task: FakeTask, heard: FakeAlerts, spec: StreamSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts(monkeypatch, {STREAM: StateError("away")})
    monkeypatch.setattr(heard, "pull", lambda *_: pytest.fail("it was pulled"))
    with pytest.raises(RejeuError):
        look(task, spec)


# The DAG


@pytest.fixture
def dag(target: Target) -> DAG:
    return build_patrol([], target)


def repair_of(dag: DAG) -> Any:
    repair = dag.get_task("repair")
    assert isinstance(repair, MappedOperator)
    return repair


def test_it_looks_once_a_minute_and_never_twice_at_a_time(dag: DAG) -> None:
    schedule: Any = dag.schedule
    assert (dag.dag_id, schedule.expression, str(schedule.timezone)) == (PATROL, "* * * * *", "UTC")
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert dag.dagrun_timeout is not None


def test_it_triggers_one_run_for_each_that_look_names(dag: DAG) -> None:
    repair = repair_of(dag)
    assert repair.upstream_task_ids == {"look"}
    assert repair.partial_kwargs["trigger_run_id"] == "patrol__{{ run_id }}", "a second try makes no second run"
    assert repair.partial_kwargs["skip_when_already_exists"] is True


def test_without_alerts_there_is_nothing_to_acknowledge(dag: DAG) -> None:
    assert set(dag.task_ids) == {"look", "repair", "repair_orphan"}


def test_alerts_are_acknowledged_after_the_runs_were_triggered(target: Target) -> None:
    dag = build_patrol([], target.model_copy(update={"alerts": "rejeu-alerts-patrol"}))
    acknowledge = dag.get_task("acknowledge")
    assert "repair" in acknowledge.upstream_task_ids
    assert acknowledge.trigger_rule == TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS


def test_it_is_made_unpaused_for_nobody_would_notice_that_it_is_not(dag: DAG) -> None:
    assert dag.is_paused_upon_creation is False


def test_several_looks_share_the_streams_and_one_of_them_hears_alerts(target: Target) -> None:
    dag = build_patrol([], target.model_copy(update={"alerts": "rejeu-alerts-patrol"}), looks=3)
    looks = [task for task in dag.tasks if isinstance(task, LookAround)]
    assert [task.task_id for task in looks] == ["part_1.look", "part_2.look", "part_3.look"]
    assert [task_id for task_id in dag.task_ids if task_id.endswith("acknowledge")] == ["part_1.acknowledge"]
    assert dag.get_task("part_2.repair").upstream_task_ids == {"part_2.look"}
    names = [f"stream_{number}" for number in range(100)]
    assert all(len([task for task in looks if task._is_ours(name)]) == 1 for name in names)
    assert DagSerialization.to_dict(dag)


def test_it_reads_the_specs_when_it_runs(tmp_path: Path) -> None:
    looking = LookAround(task_id="look", folders=[tmp_path])
    (tmp_path / "broken.yaml").write_text("stream: [", encoding="utf-8")
    shutil.copy(STREAMS / "crypto_rates.yaml", tmp_path)
    assert [spec.stream for spec in looking.specs] == [STREAM]


def test_it_calls_no_more_watchdogs_than_airflow_makes_tasks_of_and_the_silent_ones_first(
    task: FakeTask, spec: StreamSpec, other: StreamSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patrol, "MOST_CALLED", 1)
    missing = Verdict(Signal.FLOWING, missing=frozenset({Missing.STANDBY}))
    verdicts(monkeypatch, {STREAM: missing, OTHER: Verdict(Signal.SILENT)})
    assert called(look(task, spec, other)) == [f"{OTHER}.watchdog"]


def test_it_says_what_it_is_and_airflow_can_store_it(dag: DAG) -> None:
    assert dag.doc_md
    assert all(getattr(task, "doc_md", None) for task in dag.tasks)
    assert DagSerialization.to_dict(dag)
