"""What a demo says of its own numbers."""

from __future__ import annotations

import pytest

from rejeu.local.demos.explain import explain
from rejeu.local.demos.registry import DEMOS
from rejeu.local.demos.result import Result

RESULT = Result(
    stream="crypto_rates",
    source_rows=1_200,
    batch_rows=60_000,
    expected_rows=68_400,
    streamed_rows=8_400,
    missing=0,
    unexpected=0,
    duplicates_in_live_view=0,
    dead_letters=0,
    incidents=1,
    killed_at="2026-11-28T12:00:00.000+00:00",
    detected_at="2026-11-28T12:00:05.200+00:00",
    relaunched_at="2026-11-28T12:00:07.000+00:00",
    resumed_at="2026-11-28T12:00:08.500+00:00",
    panes={},
    further_checks={},
    gap_seconds=8.5,
    handover_seconds=6.2,
    total_seconds=100,
    epoch=3,
)


def said(**changes: object) -> str:
    return "\n".join(explain(RESULT.model_copy(update=changes)))


def test_it_says_how_many_rows_a_message_becomes_and_why() -> None:
    assert "1,200 rows of the source, one message each; the streaming job wrote 8,400 rows, 7 for a message" in said()
    assert "each becomes a row" in said()


def test_it_says_whose_each_epoch_was() -> None:
    assert "Epoch 3: the first replay published under 1. The watchdog took 2" in said()
    assert "Epoch 5: each replay takes the next number" in said(epoch=5)


def test_it_says_what_the_gap_is_made_of() -> None:
    assert "The gap of 8.5 s: 5.2 s until" in said()
    assert "1.8 s until Airflow had started another replay, 1.5 s until" in said()


@pytest.mark.parametrize("stream", DEMOS)
def test_every_stream_has_its_sentence(stream: str) -> None:
    assert DEMOS[stream].becomes in said(stream=stream)


def test_dead_letters_are_named_only_where_there_are_some() -> None:
    assert "dead letters" not in said()
    assert "3 messages are of no use" in said(dead_letters=3)
