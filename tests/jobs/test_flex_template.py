"""The flex template: the file that is built from is the one that the request's fields make."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from rejeu.jobs.flex_template import metadata
from rejeu.jobs.request import StreamJobRequest
from rejeu.spec.workers import Workers
from tests.paths import ROOT

FILE = ROOT / "beam_jobs" / "stream.template.json"
PARAMETERS: dict[str, Any] = {each["name"]: each for each in metadata()["parameters"]}


def test_the_file_is_what_the_request_makes() -> None:
    assert json.loads(FILE.read_text(encoding="utf-8")) == metadata(), "run `make docs`"


def test_every_field_is_a_parameter_but_what_dataflow_asks_for_itself() -> None:
    assert set(StreamJobRequest.model_fields) - set(PARAMETERS) == {"workers"}
    assert [name for name, each in PARAMETERS.items() if not each["isOptional"]] == [
        "stream",
        "pipeline",
        "subscription",
        "table",
        "dead_letters",
        "event_time",
    ]


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("stream", "crypto_rates", "Crypto"),
        ("pipeline", "rates", "rate"),
        ("subscription", "projects/rejeu-test/subscriptions/rates", "rates"),
        ("table", "rejeu-test.live.rates", "live.rates"),
        ("dead_letters", "rejeu-test.live.dead", "rejeu-test:live.dead"),
    ],
)
def test_what_would_be_refused_later_is_refused_by_the_form(name: str, right: str, wrong: str) -> None:
    (regex,) = PARAMETERS[name]["regexes"]
    assert re.fullmatch(regex, right)
    assert not re.fullmatch(regex, wrong)


def test_workers_travel_as_one_flag() -> None:
    workers = Workers(max=5, labels={"team": "data"}, at_least_once=True)
    request = StreamJobRequest.of(
        stream="web", pipeline="rates", subscription="s", table="t", dead_letters="d", event_time="at", workers=workers
    )
    assert '--workers={"max":5,"labels":{"team":"data"},"at_least_once":true}' in request.to_argv()
    assert StreamJobRequest.from_argv(request.to_argv()) == request
