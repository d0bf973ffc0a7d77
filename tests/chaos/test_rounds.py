"""A few short rounds of `make chaos-replay` on the built-in broker: the real thing, without its thirty rounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.chaos.plan import Fault, plan
from tests.chaos.round import play
from tests.emulated.pubsub_feed import PubSubServer

pytestmark = pytest.mark.emulated

RATE = 500
SECONDS = 4
FAULTS = (Fault.KILL, Fault.PAUSE, Fault.CUT)


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    server = PubSubServer("built-in")
    server.start()
    yield server.address
    server.kill()


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_done_to_a_replay_every_row_arrives_and_every_promise_is_kept(fault: Fault, broker: str) -> None:
    drawn = plan(1, list(Fault).index(fault), ["built-in"])
    verdict = play(replace(drawn, rate=RATE, rows=RATE * SECONDS, moment=0.5, length=1.0), broker)
    assert verdict.broken == []
    assert verdict.messages >= verdict.rows == RATE * SECONDS
