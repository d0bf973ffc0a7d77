"""The reference pages: written from the code, complete, and the same on every machine."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from airflow.sdk import DAG

from docs.generate import __main__ as generate
from docs.generate import commands, dags, environment, exit_codes, message, spec_fields
from rejeu import cli, errors
from rejeu.airflow import loader
from rejeu.jobs.request import ReplayRequest
from rejeu.spec.files import load_specs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def all_dags() -> Mapping[str, DAG]:
    """Every DAG of the project's own streams."""
    return {dag.dag_id: dag for dag in loader.build_all(load_specs([dags.STREAMS]), dags.TARGET)}


@pytest.mark.parametrize(("name", "render"), generate.PAGES.items(), ids=list(generate.PAGES))
def test_a_page_is_up_to_date(name: str, render: Callable[[], str]) -> None:
    assert (generate.REFERENCE / name).read_text(encoding="utf-8") == render(), "run `make docs`"


def test_the_schema_that_editors_use_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["schema"])
    assert (dags.STREAMS / "stream.schema.json").read_text(encoding="utf-8") == capsys.readouterr().out, (
        "run `make docs`"
    )


def test_a_page_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: render() for name, render in generate.PAGES.items()}
    monkeypatch.setenv("REJEU_PROJECT", "somebody-elses")
    monkeypatch.setenv("REJEU_STREAMS", "/nowhere")
    monkeypatch.setenv("COLUMNS", "40")
    assert {name: render() for name, render in generate.PAGES.items()} == before
    assert not [name for name, text in before.items() if str(ROOT) in text]


def test_every_field_of_a_spec_says_what_it_is() -> None:
    rows = [line.strip("| ").split(" | ") for line in spec_fields.render().splitlines() if line.startswith("| ")]
    assert [row for row in rows if not row[-1].strip()] == []
    assert len(rows) > 50


def test_every_variable_that_the_code_names_is_described() -> None:
    assert environment.named() <= environment.described()


def test_no_variable_is_described_that_nothing_reads() -> None:
    settings = {environment.variable(name) for name in environment.Target.model_fields}
    assert environment.described() - settings <= environment.named()


def test_every_command_and_every_flag_of_the_replay_is_there() -> None:
    page = commands.render()
    (choices,) = (each.choices for each in cli.parser()._actions if isinstance(each, argparse._SubParsersAction))
    for name in choices:
        assert f"## `rejeu {name}`\n" in page
    for name in ReplayRequest.model_fields:
        assert f"`--{name.rstrip('_').replace('_', '-')}" in page


def test_every_error_of_ours_has_its_exit_code() -> None:
    page = exit_codes.render()
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.RejeuError)]
    for kind in kinds:
        if kind is not errors.RejeuError:
            assert f"| {kind.exit_code} | `{kind.__name__}` |" in page


def test_each_kind_of_dag_is_described_once(all_dags: Mapping[str, DAG]) -> None:
    page = dags.render()
    for dag in all_dags.values():
        kind = dag.dag_id.partition(".")[2]
        for name in [*dag.task_ids, *dag.params]:
            assert f"| `{name}` |" in page, f"{dag.dag_id}: {name}"
        assert page.count(f"\n## `my_stream.{kind}`\n") + page.count(f"\n## `{dag.dag_id}`\n") == 1


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("batch", "at 01:00 UTC (`0 1 * * *`), for the data interval that ends then"),
        ("live", "at each event of the asset `crypto_rates.batch`"),
        (
            "watchdog",
            "at each event of the asset `crypto_rates.signal`, which the watcher `crypto_rates.silence` sends",
        ),
        ("stop", "by hand only"),
    ],
)
def test_a_schedule_is_said_in_words(all_dags: Mapping[str, DAG], part: str, words: str) -> None:
    assert dags.schedule_of(all_dags[f"crypto_rates.{part}"]) == words


def test_the_message_page_names_every_attribute() -> None:
    from rejeu import message as contract

    names = {contract.ROW_ID, contract.EVENT_TIME, contract.STREAM, contract.EPOCH}
    assert set(message.ATTRIBUTES) == names
