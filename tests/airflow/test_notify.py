"""What a person is told, and that nothing which goes wrong on the way there reaches the task."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk import BaseNotifier

from rejeu.airflow.notify import ENDS, given_up_text, incident_text, notify
from rejeu.bigquery.records import IncidentRow
from rejeu.ports import EndedBy
from tests.airflow.builders import a_run

SAID: list[str] = []
ROW = IncidentRow.model_validate(
    {
        "stream": "crypto_rates",
        "lost_at": "2026-11-20T12:00:00.250000Z",
        "detected_at": "2026-11-20T12:00:05.500000Z",
        "relaunched_at": "2026-11-20T12:00:07.000000Z",
        "resumed_at": "2026-11-20T12:00:09.500000Z",
        "gap_seconds": 9.25,
        "cause": "the replay died: its lease ran out",
        "rows_owed": 118,
        "rows_lost": 0,
        "probe": "heartbeat",
        "launcher": "process",
        "dag_run_id": "asset-1",
        "ended_by": "signal",
    }
)


class Pager(BaseNotifier):
    """A notifier as the providers have them: its text is a template."""

    template_fields = ("message",)

    def __init__(self, message: str = "{{ rejeu.subject }} | {{ rejeu.text }} | {{ run_id }}") -> None:
        super().__init__()
        self.message = message

    def notify(self, context: Any) -> None:
        SAID.append(self.message)


class BrokenPager(Pager):
    """One whose service is away."""

    def notify(self, context: Any) -> None:
        raise ConnectionError("no carrier")


on_call = Pager()
on_holiday = BrokenPager()
misspelt = Pager("{{ rejeu.text | no_such_filter }}")
facts = Pager("{{ rejeu.stream }}: {{ rejeu.gap_seconds }} s")
nobody = "a text"


def not_a_notifier() -> str:
    return "a text"


@pytest.fixture(autouse=True)
def _nothing_said() -> Iterator[None]:
    yield
    SAID.clear()


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Names a notifier of this module as the target's."""
    return lambda name: monkeypatch.setenv("REJEU_NOTIFIER", f"{__name__}.{name}")


# How it is told


@pytest.mark.parametrize("name", ["on_call", "Pager"], ids=["an instance", "what makes one"])
def test_a_notifiers_templates_find_the_message_beside_the_runs_own_values(name: str, use: Any) -> None:
    use(name)
    notify(a_run(run_id="asset-1"), "back", "it is back")
    assert SAID == ["back | it is back | asset-1"]


def test_two_messages_of_one_task_differ(use: Any) -> None:
    use("on_call")
    notify(a_run(), "first", "1")
    notify(a_run(), "second", "2")
    assert [said.split(" | ")[0] for said in SAID] == ["first", "second"]


def test_templates_find_the_facts_one_by_one(use: Any) -> None:
    use("facts")
    notify(a_run(), "back", "it is back", **ROW.as_json())
    assert SAID == ["crypto_rates: 9.25 s"]


def test_the_context_of_the_task_stays_as_it_was(use: Any) -> None:
    use("on_call")
    context = a_run()
    before = dict(context)
    notify(context, "back", "it is back")
    assert context == before


def test_without_a_notifier_the_log_of_the_task_says_it(caplog: pytest.LogCaptureFixture) -> None:
    notify(a_run(), "back", "it is back")
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "back\nit is back")
    ]


@pytest.mark.parametrize(
    "name", ["misspelt", "not_a_notifier", "nobody", "missing", "missing.module"], ids=lambda name: str(name)
)
def test_a_notifier_that_fails_costs_nothing_but_a_line_with_what_it_should_have_said(
    name: str, use: Any, caplog: pytest.LogCaptureFixture
) -> None:
    use(name)
    notify(a_run(), "back", "it is back")
    [record] = [record for record in caplog.records if record.name == "rejeu.airflow.notify"]
    assert record.levelno == logging.ERROR
    assert record.getMessage().endswith("should have said: back\nit is back")
    assert record.exc_info


def test_a_service_that_is_away_costs_nothing(use: Any) -> None:
    use("on_holiday")
    notify(a_run(), "back", "it is back")
    assert SAID == []


def test_what_is_no_notifier_is_told_with_the_remedy(use: Any, caplog: pytest.LogCaptureFixture) -> None:
    use("not_a_notifier")
    notify(a_run(), "back", "it is back")
    assert f"REJEU_NOTIFIER is '{__name__}.not_a_notifier': it must name a BaseNotifier, or a callable" in caplog.text


# What is told


def test_an_incident_says_how_long_why_and_what_came_of_it() -> None:
    subject, text = incident_text(ROW)
    assert subject == "crypto_rates: the signal was gone for 9.2 s and is back"
    assert text.splitlines() == [
        "It was lost at 2026-11-20 12:00:00 UTC. The replay died: its lease ran out.",
        "The heartbeat saw it after 5.2 s; the replay was relaunched after 6.8 s (process).",
        "118 rows came late, 0 are lost.",
        "Run asset-1 of crypto_rates.watchdog; `rejeu incidents crypto_rates` shows those before.",
    ]


def test_an_incident_of_somebody_elses_stream_says_only_what_is_known() -> None:
    unknown = dict.fromkeys(("relaunched_at", "rows_owed", "rows_lost"))
    _, text = incident_text(ROW.model_copy(update={**unknown, "probe": "tap"}))
    assert text.splitlines()[1:3] == [
        "The tap saw it after 5.2 s; nobody here can relaunch what somebody else publishes.",
        "Run asset-1 of crypto_rates.watchdog; `rejeu incidents crypto_rates` shows those before.",
    ]


@pytest.mark.parametrize("ended_by", EndedBy)
def test_an_incident_says_what_ended_it(ended_by: EndedBy) -> None:
    subject, _ = incident_text(ROW.model_copy(update={"ended_by": ended_by}))
    assert subject == f"crypto_rates: the signal was gone for 9.2 s and {ENDS[ended_by]}"


def test_rows_that_nobody_could_count_as_lost_are_not_called_found() -> None:
    _, text = incident_text(ROW.model_copy(update={"rows_lost": None}))
    assert text.splitlines()[2] == "118 rows came late."


def test_giving_up_says_why_and_what_to_do() -> None:
    cause = "crash loop at 2021-05-01T00:00:07Z: 5 relaunches did not get past it: row 7 has no event time"
    subject, text = given_up_text("crypto_rates", cause)
    assert subject == "crypto_rates: given up, the signal stays away until somebody acts"
    assert f"Crash{cause[5:]}." in text
    assert "trigger crypto_rates.live" in text
    assert "give it `from`" in text
