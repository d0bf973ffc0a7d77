"""Events become records of their users, whatever way their time is written, or a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from beam_jobs.pipelines.clicks.transform import make_decoder

MICROS = 1_533_279_652_346_001


def decode(**fields: Any) -> tuple[str, int]:
    record = make_decoder()(json.dumps(fields).encode())
    [user] = record.key
    return user, record.event_us


@pytest.mark.parametrize(
    "written",
    [
        MICROS,
        str(MICROS),
        "2018-08-03T07:00:52.346001Z",
        "2018-08-03 07:00:52.346001 UTC",
        "2018-08-03T09:00:52.346001+02:00",
    ],
)
def test_an_event_is_its_users_at_its_time_however_that_is_written(written: int | str) -> None:
    assert decode(user_pseudo_id="ann", event_timestamp=written, event_params=[{"key": "x"}]) == ("ann", MICROS)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"event_timestamp": 1}, "`user_pseudo_id`"),
        ({"user_pseudo_id": None, "event_timestamp": 1}, r"\$\.user_pseudo_id"),
        ({"user_pseudo_id": 7, "event_timestamp": 1}, r"\$\.user_pseudo_id"),
        ({"user_pseudo_id": "ann"}, "`event_timestamp`"),
        ({"user_pseudo_id": "ann", "event_timestamp": None}, r"\$\.event_timestamp"),
        ({"user_pseudo_id": "ann", "event_timestamp": 1.5}, r"\$\.event_timestamp"),
        ({"user_pseudo_id": "ann", "event_timestamp": ""}, "event_timestamp: '' is not a time"),
        ({"user_pseudo_id": "ann", "event_timestamp": "9" * 5_000}, "Exceeds the limit"),
        ({"user_pseudo_id": "ann", "event_timestamp": "2018-08-03T07:00:52"}, "event_timestamp: .* no time zone"),
    ],
)
def test_what_is_wrong_is_refused_with_a_reason_that_names_the_field(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(**fields)
