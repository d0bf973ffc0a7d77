"""Oracle requests become one row a symbol, nothing, or a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from apache_beam import Create
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs.pipelines.rates.transform import make_decoder, transform
from rejeu.jobs.request import PipelineRequest
from rejeu.spec.pipelines import PIPELINES
from tests.beam_jobs.builders import STREAM, counter, make_message, make_request, pipeline_here

ASKED = PipelineRequest(stream=STREAM, pipeline="rates")


def decode(request: dict[str, Any]) -> list[dict[str, Any]]:
    return make_decoder()(json.dumps(request).encode())


def decoded(calldata: object, result: object) -> dict[str, Any]:
    return {"decoded_result": {"calldata": calldata, "result": result}}


def test_a_request_becomes_one_row_a_symbol() -> None:
    first, second = decode(make_request(number=47976, symbols=("BTC", "ETH"), rates=(57234120000, 2945500000)))
    assert first == {
        "timestamp": "2021-05-01T00:00:12.349376Z",
        "request": "47976",
        "symbol": "BTC",
        "rate": 57234.12,
        "date_str": "20210501000012",
    }
    assert (second["symbol"], second["rate"]) == ("ETH", 2945.5)


def test_rows_have_the_columns_that_the_pipeline_promises() -> None:
    columns = PIPELINES["rates"].columns
    assert columns is not None
    assert list(decode(make_request())[0]) == [column.name for column in columns]


@pytest.mark.parametrize("number", [47976, "47976"])
def test_integers_come_as_numbers_or_as_text(number: int | str) -> None:
    request = make_request(oracle_request_id=number, request={"oracle_script_id": "3" if number == "47976" else 3})
    assert {row["request"] for row in decode(request)} == {"47976"}


@pytest.mark.parametrize(
    ("instant", "date_str"),
    [
        ("2021-05-01T01:30:00+02:00", "20210430233000"),
        ("2021-04-30 23:30:00 UTC", "20210430233000"),
        ("2021-04-30T23:30:00.123456789Z", "20210430233000"),
    ],
)
def test_date_str_is_in_utc_whatever_the_zone(instant: str, date_str: str) -> None:
    assert decode(make_request(block_timestamp_truncated=instant))[0]["date_str"] == date_str


@pytest.mark.parametrize(
    "request_body",
    [
        make_request(request={"oracle_script_id": "1"}, **decoded('{"base_symbol":"LRC"}', '{"px":188837}')),
        make_request(request={"oracle_script_id": 4}, decoded_result=None),
        make_request(symbols=("BTC", "ETH"), rates=(57234120000,)),
        make_request(symbols=(), rates=()),
    ],
    ids=["script 1", "script 4 without a result", "fewer rates than symbols", "no symbols"],
)
def test_what_is_not_for_this_pipeline_is_filtered_and_not_dead(request_body: dict[str, Any]) -> None:
    with pipeline_here() as pipeline:
        rows, dead = pipeline | Create([make_message(request_body)]) | transform(ASKED)
        assert_that(rows, equal_to([]), "no rows")
        assert_that(dead, equal_to([]), "no dead letters")
    assert counter(pipeline, "filtered") == 1


@pytest.mark.parametrize(
    ("request_body", "reason"),
    [
        ({"block_height": "1"}, "`request`"),
        (make_request(oracle_request_id="many"), r"\$\.oracle_request_id"),
        (make_request(request={"oracle_script_id": True}), r"\$\.request\.oracle_script_id"),
        (make_request(decoded_result=None), r"\$\.decoded_result"),
        (make_request(decoded_result={"result": "{}"}), "`calldata`"),
        (make_request(multiplier=0), r"decoded_result\.calldata: .* >= 1 - at `\$\.multiplier`"),
        (make_request(**decoded("AAAAA0xSQw==", '{"rates":[1]}')), r"decoded_result\.calldata: JSON is malformed"),
        (make_request(**decoded('{"symbols":["BTC"]}', '{"rates":[1]}')), r"decoded_result\.calldata: .*`multiplier`"),
        (make_request(**decoded('{"symbols":["BTC"],"multiplier":1}', "null")), r"decoded_result\.result: "),
        (make_request(rates=("high", "low")), r"decoded_result\.result: .*\$\.rates\[0\]"),
        (make_request(block_timestamp_truncated="yesterday"), "block_timestamp_truncated: 'yesterday' is not a time"),
        (make_request(block_timestamp_truncated="2021-05-01T00:00:00"), "block_timestamp_truncated: .* no time zone"),
    ],
)
def test_what_is_wrong_is_refused_with_a_reason_that_names_the_field(request_body: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(request_body)


def test_each_row_is_named_after_its_message_and_its_symbols_place() -> None:
    with pipeline_here() as pipeline:
        rows, _ = pipeline | Create([make_message(make_request(), row_id="crypto_rates/7/1/0")]) | transform(ASKED)
        assert_that(rows, lambda found: _check([row.row_id for row in found]))


def _check(row_ids: list[str]) -> None:
    assert sorted(row_ids) == ["crypto_rates/7/1/0#0", "crypto_rates/7/1/0#1"]
