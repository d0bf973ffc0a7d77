"""The rules of pipelines are broken by pipelines that break them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rejeu import extensions
from rejeu.spec.columns import Column
from rejeu.spec.pipelines import PIPELINES
from rejeu.testing import registered
from rejeu.testing.pipelines import PipelineContract

READING = b'{"sensor": "s-1", "Timestamp": "2026-11-20T12:00:00Z", "Temp": 12.5}'


class Tried(PipelineContract):
    __test__ = False
    name = "tried"
    messages = (READING,)
    wrong = (b"{}",)


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(extensions, "__path__", [])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("rejeu.extensions.")]:
        del sys.modules[name]


def test_a_record_that_needs_beam_is_told(beside: Path) -> None:
    (beside / "tried.py").write_text(
        "import apache_beam\nfrom rejeu.spec.pipelines import Pipeline\nPIPELINE = Pipeline('nowhere')\n"
    )
    extensions.look_in(beside)
    with pytest.raises(AssertionError, match="Airflow reads the record and has no Beam"):
        Tried().test_its_record_is_read_where_no_beam_is()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ((Column("Timestamp", "TIMESTAMP"),), "rows do not fit the columns: .*there is no such column"),
        ((*(PIPELINES["sensor_means"].columns or ()), Column("mood", "STRING")), "no row has these columns"),
    ],
)
def test_rows_that_do_not_fit_the_columns_are_told(columns: tuple[Column, ...], said: str) -> None:
    with (
        registered(PIPELINES, "tried", replace(PIPELINES["sensor_means"], columns=columns)),
        pytest.raises(Exception, match=said),
    ):
        Tried().test_messages_become_rows_that_fit_its_columns()


@pytest.mark.slow
def test_a_message_that_was_meant_to_be_wrong_and_is_not_is_told() -> None:
    class Lenient(Tried):
        wrong = (READING,)

    with (
        registered(PIPELINES, "tried", PIPELINES["sensor_means"]),
        pytest.raises(Exception, match=r"1 wrong messages, and dead letters with these reasons: \[\]"),
    ):
        Lenient().test_a_wrong_message_is_a_dead_letter_with_a_reason_and_the_others_are_rows()
