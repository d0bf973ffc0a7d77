"""The page about DAGs: each kind once, from the DAGs of a made-up stream, and what differs between streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, CronTriggerTimetable, Param
from cron_descriptor import ExpressionDescriptor  # type: ignore[import-untyped]  # a part of Airflow

from docs.generate.markdown import code, page, table
from rejeu.airflow import loader
from rejeu.airflow.dags.patrol import build_patrol
from rejeu.errors import SpecError
from rejeu.spec.files import Loaded, load_specs
from rejeu.spec.model import StreamSpec
from rejeu.target import Target

STREAMS: Final = Path(__file__).parents[2] / "dags" / "streams"
TARGET: Final = Target(project="my-project", bucket="my-bucket")
"""Fixed, so that the page is the same whoever generates it."""
OURS: Final = StreamSpec.model_validate(
    {
        "stream": "my_stream",
        "event_time": "happened_at",
        "key": ["id"],
        "batch": {"files": "gs://{bucket}/my_stream/dt={partition}/*.ndjson", "table": "my_dataset.batch"},
        "live": {"topic": "my-topic", "table": "my_dataset.stream"},
        "replay": {"source": {"table": "my_dataset.source"}},
    }
)
"""A stream that has every kind of DAG."""
FOREIGN: Final = StreamSpec.model_validate(
    {
        "stream": "my_stream",
        "event_time": "happened_at",
        "live": {"topic": "my-topic", "table": "my_dataset.stream"},
        "watchdog": {"probe": "tap"},
    }
)
"""A stream whose rows somebody else publishes."""
INVALID: Final = SpecError("dags/streams/my_stream.yaml", "live.topic", "it is missing", "Add it.")
INTRODUCTION: Final = """
Every stream has the DAGs below, each called `<stream>.<kind>`. They are described for a stream `my_stream`, whose
tables lie in `my_dataset`; in Airflow each DAG's own page (**Docs**) says the same with the names of its stream.
"""
FOREIGN_HEAD: Final = "### Where somebody else publishes the rows"


def render() -> str:
    """The page."""
    ours, foreign = _by_kind(OURS), _by_kind(FOREIGN)
    kinds = [_kind(kind, dag, foreign.get(kind)) for kind, dag in ours.items()]
    others = [_describe(_patrol()), "\n\n".join(_describe_invalid())]
    return page("DAGs", INTRODUCTION, *_differences(), *kinds, *others)


def schedule_of(dag: DAG) -> str:
    """When the DAG runs, in words."""
    schedule: Any = dag.schedule
    if schedule is None:
        return "by hand only"
    if isinstance(schedule, CronDataIntervalTimetable | CronTriggerTimetable):
        cron = schedule.expression
        words = ExpressionDescriptor(cron, use_24hour_time_format=True).get_full_description()
        when = f"{words[0].lower()}{words[1:]} {schedule.timezone} (`{cron}`)"
        interval = isinstance(schedule, CronDataIntervalTimetable)
        return f"{when}, for the data interval that ends then" if interval else when
    return " and ".join(_event(asset) for asset in schedule)


def _event(asset: Asset) -> str:
    seen_by = f", which the watcher `{asset.watchers[0].name}` sends" if asset.watchers else ""
    return f"at each event of the asset `{asset.name}`{seen_by}"


def _by_kind(spec: StreamSpec) -> dict[str, DAG]:
    dags = loader.build_dags(Loaded(STREAMS / "my_stream.yaml", spec.stream, spec), TARGET)
    return {dag.dag_id.removeprefix(f"{spec.stream}."): dag for dag in dags}


def _patrol() -> DAG:
    target = TARGET.model_copy(update={"alerts": "rejeu-alerts"})
    return build_patrol([STREAMS], target)


# What differs between the streams


def _differences() -> Iterator[str]:
    specs = [loaded.spec for loaded in load_specs([STREAMS]) if loaded.spec is not None]
    yield "## The streams of this repository"
    yield "What differs between their DAGs; everything else is as below."
    yield table(("stream", "its DAGs", "batch", "hand-over", "reconcile", "silence", "probe"), map(_habits, specs))
    yield "Where their rows are:"
    yield table(("stream", "topic", "batch table", "streaming table", "live view", "more views"), map(_places, specs))


def _habits(spec: StreamSpec) -> Sequence[str]:
    kinds = list(_by_kind(spec))
    return (
        code(spec.stream),
        ", ".join(kinds),
        code(spec.batch.schedule) if spec.batch else "none",
        code(spec.hand_over.value),
        code(spec.reconcile.schedule or "by hand") if "reconcile" in kinds else "none: its rows are of windows",
        f"{spec.watchdog.silence.total_seconds():g} s",
        ", ".join(spec.watchdog.probe),
    )


def _places(spec: StreamSpec) -> Sequence[str]:
    views = ", ".join(code(f"{spec.live.table}_{view.name}") for view in spec.pipeline.views)
    batch = code(spec.batch.table) if spec.batch else ""
    return code(spec.stream), code(spec.live.topic), batch, code(spec.live.table), code(spec.view), views


# A kind of DAG


def _kind(kind: str, ours: DAG, foreign: DAG | None) -> str:
    """The DAG of a stream of ours; and of a foreign topic, where that one says something else."""
    description = _describe(ours)
    if foreign is None or (_tasks(foreign), _words(foreign)) == (_tasks(ours), _words(ours)):
        return description
    other = [FOREIGN_HEAD, f"Runs {schedule_of(foreign)}.", _words(foreign)]
    if _tasks(foreign) != _tasks(ours):
        other.append(_tasks(foreign))
    return "\n\n".join([description, *other])


def _describe(dag: DAG) -> str:
    parts = [f"## `{dag.dag_id}`", f"Runs {schedule_of(dag)}; at most {dag.max_active_runs} at a time.", _words(dag)]
    if dag.params:
        rows = [_param(name, dag.params.get_param(name)) for name in dag.params]
        parts += ["### Form", table(("field", "takes", "default", "what it says"), rows)]
    return "\n\n".join([*parts, "### Tasks", _tasks(dag)])


def _describe_invalid() -> Iterator[str]:
    (dag,) = loader.build_dags(Loaded(Path(INVALID.file), "my_stream", None, INVALID), TARGET)
    yield f"## `{dag.dag_id}`"
    yield "What a stream has in place of all others while its spec is wrong. It never runs; its page says what to do:"
    yield "\n".join(line for line in (dag.doc_md or "").splitlines() if not line.startswith("# ")).strip()


def _words(dag: DAG) -> str:
    """The DAG's page, without the table of its stream's names."""
    return (dag.doc_md or "").partition("\n\n| stream |")[0]


def _tasks(dag: DAG) -> str:
    order = [node.node_id for node in dag.task_group.topological_sort() if node.node_id in dag.task_dict]
    return table(("task", "after", "what it does"), (_task(dag.get_task(task_id)) for task_id in order))


def _task(task: Any) -> Sequence[str]:
    after = ", ".join(code(upstream) for upstream in sorted(task.upstream_task_ids))
    return code(task.task_id), after, (task.doc_md or "").partition("\n\n")[0]


def _param(name: str, param: Param) -> Sequence[str]:
    schema = param.schema
    kinds = [schema["format"]] if "format" in schema else schema["type"]
    takes = (
        [code(value) for value in schema["enum"]] if "enum" in schema else [kind for kind in kinds if kind != "null"]
    )
    default = "" if param.value is None else code(param.value)
    return code(name), " or ".join(takes), default, f"{schema['title']}: {param.description}"
