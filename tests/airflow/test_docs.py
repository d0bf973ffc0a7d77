"""The words that people read in Airflow: each DAG's page, made from its spec."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from docs.generate.dags import TARGET
from rejeu.airflow.dags.invalid import page_of
from rejeu.airflow.dags.kind import DagKind
from rejeu.airflow.dags.registry import KINDS
from rejeu.airflow.factory import build_dag
from rejeu.errors import SpecError
from rejeu.spec.model import StreamSpec
from tests.airflow.builders import STREAM


def page_of_dag(spec: StreamSpec, kind: str) -> str:
    """The page of one of the stream's DAGs."""
    page = build_dag(spec, kind, TARGET).doc_md
    assert page
    return page


def tables(page: str) -> list[list[str]]:
    """The tables of a Markdown page, each as its lines."""
    blocks = [block.splitlines() for block in page.split("\n\n")]
    return [block for block in blocks if block[0].startswith("|")]


def columns(line: str) -> int:
    return line.replace("\\|", "").count("|")


# One DAG


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_page_begins_with_what_the_dag_does(spec: StreamSpec, kind: DagKind) -> None:
    dag = build_dag(spec, kind.name, TARGET)
    assert (dag.doc_md or "").startswith(kind.summary)
    assert dag.description == kind.summary
    assert dag.dag_display_name == f"{STREAM}.{kind.name}: {kind.purpose}"


@pytest.mark.parametrize("part", [kind.name for kind in KINDS])
def test_no_line_of_a_page_is_indented_into_a_block_of_code(spec_with: Callable[..., StreamSpec], part: str) -> None:
    page = page_of_dag(spec_with(description="First line.\nSecond line, with a | bar.\n"), part)
    assert [line for line in page.splitlines() if line.startswith("    ")] == []
    (facts,) = tables(page)
    assert len({columns(line) for line in facts}) == 1
    assert "| what | First line. Second line, with a \\| bar. |" in facts


def test_the_batch_page_has_the_command_that_loads_a_range_of_days(spec: StreamSpec) -> None:
    command = f"airflow backfill create --dag-id {STREAM}.batch --from-date 2021-04-01 --to-date 2021-05-01"
    assert command in page_of_dag(spec, "batch")


def test_the_watchdogs_page_says_how_long_silence_is(spec_with: Callable[..., StreamSpec]) -> None:
    assert "Silence is 90 s without a row" in page_of_dag(spec_with(watchdog={"silence": "1.5m"}), "watchdog")


def test_the_watchdogs_page_says_what_it_looks_through_and_how_often_it_tries(
    spec_with: Callable[..., StreamSpec],
) -> None:
    page = page_of_dag(spec_with(watchdog={"probe": ["heartbeat", "tap"], "attempts": 7}), "watchdog")
    assert "The probe: heartbeat, tap." in page
    assert "After 7 relaunches that leave the stream where it was the watchdog gives up" in page


@pytest.mark.parametrize("part", ["batch", "live", "watchdog", "stop"])
def test_a_page_about_what_somebody_else_publishes_promises_no_replay(foreign_spec: StreamSpec, part: str) -> None:
    page = page_of_dag(foreign_spec, part)
    assert "| replays | nothing: somebody else publishes |" in page
    assert [line for line in page.splitlines() if line.startswith("    ")] == []


def test_the_pages_about_what_somebody_else_publishes_say_what_is_ours(foreign_spec: StreamSpec) -> None:
    assert "Somebody else publishes to it." in page_of_dag(foreign_spec, "live")
    watchdog = page_of_dag(foreign_spec, "watchdog")
    assert "there is nothing to relaunch" in watchdog
    assert "The streaming job is ours, and is restored." in watchdog
    assert "relaunches the replay at its cursor, waits" not in watchdog


def test_a_stream_without_a_batch_does_not_speak_of_one(spec_with: Callable[..., StreamSpec]) -> None:
    page = page_of_dag(spec_with(batch=None), "live")
    assert "Runs by hand only." in page
    assert "| batch table |" not in page


@pytest.mark.parametrize(
    ("replay", "words"),
    [
        (
            {"source": {"generator": "oracle_requests"}, "speed": "max"},
            "`oracle_requests` by `timestamp`, at speed max",
        ),
        ({"source": {"query": "SELECT 1"}, "speed": 2.0}, "a query by `timestamp`, at speed 2"),
    ],
)
def test_the_page_says_what_is_replayed(spec_with: Callable[..., StreamSpec], replay: object, words: str) -> None:
    assert f"| replays | {words} |" in page_of_dag(spec_with(replay=replay), "live")


def test_a_wrong_spec_says_file_field_reason_and_remedy() -> None:
    page = page_of(SpecError("a.yaml", "live.topic", "it is 'a|b':\nit must match", "Mend it."))
    (facts,) = tables(page)
    assert facts[2:] == [
        "| file | `a.yaml` |",
        "| field | `live.topic` |",
        "| reason | it is 'a\\|b': it must match |",
        "| remedy | Mend it. |",
    ]


def test_a_file_that_is_wrong_as_a_whole_names_no_field() -> None:
    assert "| field | the whole file |" in page_of(SpecError("a.yaml", "", "it is empty", "Begin."))
