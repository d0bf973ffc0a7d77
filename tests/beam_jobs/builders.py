"""Oracle requests of the real table's shape, the pipelines to try them in, and what tests wait with."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline

from beam_jobs.transforms.records import Message

STREAM = "crypto_rates"
BUCKET = "rejeu-raw"
READY_SECONDS = 120
"""As long as a busy machine may take; only a test that fails waits for so long."""
StartJob = Callable[..., subprocess.Popen[str]]
"""Takes the job's request, and variables of its environment by name."""


def pipeline_here() -> TestPipeline:
    """A pipeline that runs in this process: what Beam calls DirectRunner tries to download another runner first."""
    return TestPipeline(runner=FnApiRunner())


def make_request(
    number: int = 1,
    symbols: tuple[str, ...] = ("BTC", "ETH"),
    rates: tuple[float | str, ...] = (57234120000, 2945500000),
    multiplier: int = 1_000_000,
    **changes: Any,
) -> dict[str, Any]:
    """An oracle request as the table of blockchain-etl/band-etl has it; `changes` replace its fields."""
    request = {
        "block_height": "568661",
        "block_timestamp": "2021-05-01T00:00:12.349376931Z",
        "block_timestamp_truncated": "2021-05-01T00:00:12.349376Z",
        "oracle_request_id": str(number),
        "type": "oracle_request",
        "request": {
            "oracle_script_id": "3",
            "calldata": "AAAAA0xSQwAAAANVU0QAAAAAAA9CQA==",
            "requested_validators": ["bandvaloper1yplk6n4wmeaarxp966gukpxupg3jqfcqkh32mw"],
            "min_count": "3",
            "request_height": "568659",
            "request_time": "2021-05-01T00:00:06.277694472Z",
            "raw_requests": [{"external_id": "31", "data_source_id": "4"}],
        },
        "reports": [
            {
                "validator": "bandvaloper1yplk6n4wmeaarxp966gukpxupg3jqfcqkh32mw",
                "in_before_resolve": True,
                "raw_reports": [{"external_id": "12", "data": "MC4xODkxOTYK"}],
            }
        ],
        "result": {
            "request_packet_data": {"oracle_script_id": "3", "ask_count": "4", "min_count": "3"},
            "response_packet_data": {"request_id": str(number), "ans_count": "4", "resolve_status": 1},
        },
        "oracle_script": {"name": "Crypto prices", "schema": "{symbols:[string],multiplier:u64}/{rates:[u64]}"},
        "decoded_result": {
            "calldata": json.dumps({"symbols": symbols, "multiplier": multiplier}),
            "result": json.dumps({"rates": rates}),
        },
    }
    return request | changes


def make_message(body: dict[str, Any] | bytes, row_id: str = "crypto_rates/1/1/0") -> Message:
    """A message with this body."""
    return Message(row_id, body if isinstance(body, bytes) else json.dumps(body).encode(), {"row_id": row_id})


def counter(pipeline: TestPipeline, name: str) -> int:
    """What a counter of the stream stands at, once the pipeline has run."""
    found = pipeline.result.metrics().query(MetricsFilter().with_namespace(STREAM).with_name(name))["counters"]
    return sum(each.result for each in found)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
    """Look again until it holds: what other processes do cannot be waited for otherwise."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"after {seconds:g} s still not: {what}"
        threading.Event().wait(0.05)
