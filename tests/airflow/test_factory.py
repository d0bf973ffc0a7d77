"""What the DAGs of a spec are: their ids, forms, wiring and schedules, and that Airflow can write them down."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator, TriggerRule
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.base import BaseEventTrigger

from docs.generate.dags import STREAMS, TARGET
from rejeu.airflow.dags.kind import NO_BACKFILL
from rejeu.airflow.dags.patrol import PATROL
from rejeu.airflow.factory import build_dag, kinds_of
from rejeu.airflow.triggers import SilenceTrigger
from rejeu.spec.files import load_specs
from rejeu.spec.model import StreamSpec
from rejeu.timeline import parse_instant
from rejeu.watchdog.watch import WatchPlan
from tests.airflow.builders import STREAM

SPECS = [loaded.spec for loaded in load_specs([STREAMS]) if loaded.spec is not None]
DAG_IDS = [f"{spec.stream}.{part}" for spec in SPECS for part in kinds_of(spec)]

WIRING = {
    "batch": {
        "ensure": set(),
        "choose_loader": {"ensure"},
        "prepare": {"choose_loader"},
        "load_rows": {"prepare"},
        "place_rows": {"load_rows"},
        "load_dead": {"prepare"},
        "place_dead": {"load_dead"},
        "await_load_job": {"choose_loader"},
        "measure": {"place_rows", "place_dead", "await_load_job"},
    },
    "live": {
        "ensure": set(),
        "hand_over": {"ensure"},
        "start_stream": {"ensure"},
        "start_replay": {"hand_over", "start_stream"},
        "await_signal": {"start_replay"},
    },
    "watchdog": {
        "relaunch": set(),
        "await_signal": {"relaunch"},
        "record_incident": {"await_signal"},
        "restore": {"await_signal"},
    },
    "reconcile": {"reconcile": set()},
    "stop": {"stop_replay": set(), "drain_stream": {"stop_replay"}},
}
DEFERRING = {"prepare", "load_rows", "load_dead", "place_rows", "place_dead", "await_load_job"} | {
    "start_stream",
    "await_signal",
    "restore",
    "reconcile",
}
FOREIGN_LIVE = {"ensure": set(), "start_stream": {"ensure"}, "begin_watch": {"start_stream"}}
"""The live DAG of a stream that somebody else publishes."""


def part_of(dag_id: str) -> str:
    return dag_id.rpartition(".")[2]


def test_every_spec_has_exactly_its_dags(dags: dict[str, DAG]) -> None:
    assert SPECS
    assert sorted(dags) == sorted([*DAG_IDS, PATROL])
    for spec in SPECS:
        own = {part_of(dag_id) for dag_id in dags if dag_id.startswith(f"{spec.stream}.")}
        parts = {"live", "watchdog", "stop"}
        assert own == parts | ({"batch"} if spec.batch else set()) | ({"reconcile"} if spec.window is None else set())


@pytest.mark.parametrize("dag_id", DAG_IDS)
class TestEveryDag:
    def test_it_says_what_it_is_and_whose(self, dags: dict[str, DAG], dag_id: str) -> None:
        dag = dags[dag_id]
        stream, _, part = dag_id.rpartition(".")
        (spec,) = [spec for spec in SPECS if spec.stream == stream]
        assert dag.description
        assert spec.description in (dag.doc_md or "")
        assert {"rejeu", stream, part, *spec.tags} == set(dag.tags)
        assert {task.owner for task in dag.tasks} == {spec.owner}

    def test_its_tasks_are_wired_and_shown_in_the_order_of_reading(self, dags: dict[str, DAG], dag_id: str) -> None:
        wiring = WIRING[part_of(dag_id)]
        assert {task.task_id: set(task.upstream_task_ids) for task in dags[dag_id].tasks} == wiring
        shown = [node.node_id for node in dags[dag_id].task_group.topological_sort()]
        assert [task_id for task_id in shown if task_id is not None] == list(wiring)

    def test_every_task_says_what_it_does(self, dags: dict[str, DAG], dag_id: str) -> None:
        assert [task.task_id for task in dags[dag_id].tasks if not task.doc_md] == []

    def test_a_task_that_defers_has_retries(self, dags: dict[str, DAG], dag_id: str) -> None:
        tasks = [task for task in dags[dag_id].tasks if isinstance(task, BaseOperator)]
        assert [task.task_id for task in tasks if task.task_id in DEFERRING and task.retries < 1] == []

    def test_its_form_explains_itself(self, dags: dict[str, DAG], dag_id: str) -> None:
        form = dags[dag_id].params
        for name in form:
            param = form.get_param(name)
            assert param.description
            assert param.schema["title"]
            assert param.schema["type"]
            param.resolve()

    def test_airflow_can_write_it_down_and_read_it_again(self, dags: dict[str, DAG], dag_id: str) -> None:
        again = DagSerialization.from_dict(DagSerialization.to_dict(dags[dag_id]))
        assert again.dag_id == dag_id
        assert {task.task_id for task in again.tasks} == set(WIRING[part_of(dag_id)])

    def test_it_never_catches_up_and_runs_beside_itself_only_for_batches(
        self, dags: dict[str, DAG], dag_id: str
    ) -> None:
        assert not dags[dag_id].catchup
        assert dags[dag_id].max_active_runs == {"batch": 4, "watchdog": 3}.get(part_of(dag_id), 1)


# Schedules


def test_a_batch_run_has_the_day_before_as_its_data_interval(dags: dict[str, DAG]) -> None:
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dags[f"{STREAM}.batch"])).timetable
    interval = timetable.infer_manual_data_interval(run_after=parse_instant("2021-05-01T01:00:00Z"))
    assert interval.start == parse_instant("2021-04-30T01:00:00Z")
    assert interval.end == parse_instant("2021-05-01T01:00:00Z")


def test_where_streams_wait_their_batch_alone_starts_paused(spec: StreamSpec) -> None:
    target = TARGET.model_copy(update={"streams_wait": True})
    paused = {name: build_dag(spec, name, target).is_paused_upon_creation for name in kinds_of(spec)}
    assert [name for name, waits in paused.items() if waits] == ["batch"]
    assert not any(build_dag(spec, name, TARGET).is_paused_upon_creation for name in kinds_of(spec))


def test_what_watches_and_what_stops_is_made_unpaused_and_the_rest_as_airflow_is_set(spec: StreamSpec) -> None:
    paused = {name: build_dag(spec, name, TARGET).is_paused_upon_creation for name in kinds_of(spec)}
    assert {name for name, value in paused.items() if value is False} == {"watchdog", "stop"}


def test_what_looks_at_the_present_takes_no_backfill(dags: dict[str, DAG]) -> None:
    limited = {dag_id for dag_id, dag in dags.items() if dag.allowed_run_types == frozenset(NO_BACKFILL)}
    assert limited == {PATROL} | {dag_id for dag_id in DAG_IDS if dag_id.endswith(".reconcile")}


def test_no_task_has_a_copy_of_its_dags_form(dags: dict[str, DAG]) -> None:
    form = dags["crypto_rates.live"].params
    assert set(form) == {"from", "hand_over", "speed"}
    assert [dict(task.params) for task in dags["crypto_rates.live"].tasks if task.params] == []


def test_the_end_of_a_batch_starts_the_live_dag(dags: dict[str, DAG]) -> None:
    (awaited,) = dags[f"{STREAM}.live"].schedule
    (said,) = dags[f"{STREAM}.batch"].get_task("measure").outlets
    assert awaited == said
    assert said.uri == "x-rejeu://crypto_rates/batch"


def test_a_live_dag_without_a_batch_runs_by_hand(spec_with: Callable[..., StreamSpec]) -> None:
    spec = spec_with(batch=None)
    assert kinds_of(spec) == ["live", "watchdog", "reconcile", "stop"]
    assert build_dag(spec, "live", TARGET).schedule is None


def test_the_watchdog_runs_when_its_trigger_sees_silence(dags: dict[str, DAG], spec: StreamSpec) -> None:
    (signal,) = dags[f"{STREAM}.watchdog"].schedule
    (watcher,) = signal.watchers
    assert isinstance(watcher.trigger, SilenceTrigger)
    assert watcher.trigger.plan == WatchPlan.of(spec, TARGET)


def test_airflow_writes_the_trigger_down_and_makes_the_same_one_again(dags: dict[str, DAG]) -> None:
    watchdog: Any = dags[f"{STREAM}.watchdog"]
    (signal,) = watchdog.schedule
    trigger = signal.watchers[0].trigger
    again: Any = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(watchdog)))).timetable
    (asset,) = again.asset_condition.objects
    (watcher,) = asset.watchers
    assert (watcher.name, watcher.trigger["classpath"]) == ("crypto_rates.silence", trigger.serialize()[0])
    assert SilenceTrigger(**watcher.trigger["kwargs"]).serialize() == trigger.serialize()
    assert BaseEventTrigger.hash(**watcher.trigger) == BaseEventTrigger.hash(*trigger.serialize())


def test_a_stop_runs_by_hand_only(dags: dict[str, DAG]) -> None:
    assert dags[f"{STREAM}.stop"].schedule is None


def test_the_watchdogs_relaunch_is_repeated_by_its_watcher_and_not_by_retries(dags: dict[str, DAG]) -> None:
    watchdog: Any = dags[f"{STREAM}.watchdog"]
    assert watchdog.get_task("relaunch").retries == 0
    assert watchdog.get_task("await_signal").retry_delay == timedelta(seconds=1)


def test_a_run_that_relaunched_nothing_still_records_and_restores(dags: dict[str, DAG]) -> None:
    watchdog: Any = dags[f"{STREAM}.watchdog"]
    rules = {task_id: watchdog.get_task(task_id).trigger_rule for task_id in ("record_incident", "restore")}
    assert rules == {"record_incident": TriggerRule.NONE_FAILED, "restore": TriggerRule.ALL_DONE}


# What somebody else publishes


def test_what_somebody_else_publishes_is_read_watched_and_stopped(foreign_spec: StreamSpec) -> None:
    assert kinds_of(foreign_spec) == ["batch", "live", "watchdog", "stop"]
    live = build_dag(foreign_spec, "live", TARGET)
    assert {task.task_id: set(task.upstream_task_ids) for task in live.tasks} == FOREIGN_LIVE
    assert (live.schedule, dict(live.params)) == (None, {})


@pytest.mark.parametrize("part", ["watchdog", "stop"])
def test_its_other_dags_are_those_of_every_stream(foreign_spec: StreamSpec, part: str) -> None:
    dag = build_dag(foreign_spec, part, TARGET)
    assert {task.task_id: set(task.upstream_task_ids) for task in dag.tasks} == WIRING[part]
    assert DagSerialization.from_dict(DagSerialization.to_dict(dag)).dag_id == f"{STREAM}.{part}"


def test_its_trigger_looks_at_what_arrives_and_not_for_a_replay(foreign_spec: StreamSpec) -> None:
    dag: Any = build_dag(foreign_spec, "watchdog", TARGET)
    (signal,) = dag.schedule
    plan = signal.watchers[0].trigger.plan
    assert (plan.replays, plan.probes) == (False, ("tap",))


def test_a_part_that_a_stream_does_not_have_is_not_built(foreign_spec: StreamSpec) -> None:
    with pytest.raises(ValueError, match="crypto_rates has no DAG 'relive': it has batch, live, watchdog, stop"):
        build_dag(foreign_spec, "relive", TARGET)


# Branches


@pytest.mark.parametrize(("loaded_by", "branch"), [("rejeu", "prepare"), ("elsewhere", "await_load_job")])
def test_the_form_says_who_loads_the_day(dags: dict[str, DAG], loaded_by: str, branch: str) -> None:
    choose: Any = dags[f"{STREAM}.batch"].get_task("choose_loader")
    assert choose.python_callable(params={"loaded_by": loaded_by}) == branch


def test_the_spec_says_who_loads_a_day_on_schedule(spec: StreamSpec, spec_with: Callable[..., StreamSpec]) -> None:
    assert spec.batch is not None
    elsewhere = spec_with(batch=spec.batch.model_dump() | {"loaded_by": "elsewhere"})
    assert build_dag(elsewhere, "batch", TARGET).params["loaded_by"] == "elsewhere"
    assert build_dag(spec, "batch", TARGET).params["loaded_by"] == "rejeu"


# Forms: what is wrong is refused before anything is started


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        *[
            ("live", "speed", value)
            for value in (0, -1, "fast", "0", "0.0", "nan", "", True, "1e3", "max ", 1e308, 1e-300, "9" * 20)
        ],
        *[("live", "from", value) for value in ("2021-05-01T00:00:00", "2021-05-01", "yesterday", "", 5)],
        *[("live", "hand_over", value) for value in ("next_hour", None)],
        *[("batch", "partition", value) for value in ("2021-13-01", "yesterday", "2021-05-01T00:00:00Z")],
        ("batch", "loaded_by", "somebody"),
    ],
)
def test_a_wrong_value_is_refused_by_the_form(dags: dict[str, DAG], part: str, name: str, value: Any) -> None:
    with pytest.raises(ParamValidationError):
        dags[f"{STREAM}.{part}"].params.__copy__().get_param(name).__copy__().resolve(value)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        *[("live", "speed", value) for value in (None, 1, 0.5, 60, "60", "2.5", "0.5", "max")],
        *[("live", "from", value) for value in (None, "2021-05-01T00:00Z", "2021-05-01T00:00:00.5+02:00")],
        ("live", "from", "2021-05-01T00:00:00.000Z"),
        *[("live", "hand_over", value) for value in ("next_row", "next_minute")],
        *[("batch", "partition", value) for value in (None, "2021-04-30")],
        ("batch", "loaded_by", "elsewhere"),
    ],
)
def test_a_right_value_is_taken_by_the_form(dags: dict[str, DAG], part: str, name: str, value: Any) -> None:
    assert dags[f"{STREAM}.{part}"].params.get_param(name).__copy__().resolve(value) == value


def test_the_form_hands_over_as_the_spec_says(spec: StreamSpec, spec_with: Callable[..., StreamSpec]) -> None:
    live = spec.live.model_dump() | {"hand_over": "next_minute"}
    assert build_dag(spec_with(live=live), "live", TARGET).params["hand_over"] == "next_minute"


def test_a_new_stream_is_first_compared_when_its_hour_comes_and_not_for_the_one_that_was(dags: dict[str, DAG]) -> None:
    dag = DagSerialization.from_dict(DagSerialization.to_dict(dags["crypto_rates.reconcile"]))
    first = dag.next_dagrun_info(last_automated_run_info=None)
    assert first is not None
    assert first.run_after > datetime.now(UTC)
