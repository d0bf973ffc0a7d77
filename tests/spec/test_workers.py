"""What a spec says of a streaming job's workers is checked before a job is submitted, in the spec's own words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rejeu.jobs.build import stream_job_request
from rejeu.spec.model import StreamSpec
from rejeu.spec.workers import Workers
from rejeu.target import Target

SPEC = {
    "stream": "web",
    "event_time": "at",
    "live": {"topic": "clicks", "table": "web.clicks"},
    "watchdog": {"probe": "tap"},
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"max": 0},
        {"max": 1001},
        {"machine": "N2 standard"},
        {"machine": "n2"},
        {"labels": {"Team": "data"}},
        {"labels": {"team": "Data"}},
        {"labels": {f"label-{number}": "x" for number in range(64)}},
        {"service_account": "somebody@example.com"},
        {"region": "europe-west1"},
    ],
    ids=str,
)
def test_what_dataflow_would_refuse_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        StreamSpec.model_validate(SPEC | {"live": {**SPEC["live"], "workers": wrong}})  # type: ignore[dict-item]
    assert caught.value.errors()[0]["loc"][:3] == ("live", "workers", next(iter(wrong)))


@pytest.mark.parametrize(
    "account", ["job@a-project.iam.gserviceaccount.com", "1234567-compute@developer.gserviceaccount.com"]
)
def test_both_kinds_of_service_accounts_are_known(account: str) -> None:
    assert Workers(service_account=account).service_account == account


def test_the_job_is_asked_for_with_what_the_spec_says() -> None:
    workers = {"max": 5, "machine": "n2-standard-2", "labels": {"team": "data"}}
    spec = StreamSpec.model_validate(SPEC | {"live": {**SPEC["live"], "workers": workers}})  # type: ignore[dict-item]
    assert stream_job_request(spec, Target(project="rejeu-test")).workers == Workers(**workers)  # type: ignore[arg-type]
