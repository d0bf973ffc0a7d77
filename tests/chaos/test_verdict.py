"""A broken promise is seen: each of these would pass unnoticed if its check were left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson
import pytest

from tests.chaos.collector import Got
from tests.chaos.faults import Break
from tests.chaos.plan import Fault, Plan, plan
from tests.chaos.rows import Row
from tests.chaos.verdict import Verdict, in_flight, judge

RATE = 100
COUNT = 400
STEP_US = 1_000_000 // RATE
SILENCE_US = 1_200_000
PLAN = replace(plan(1, 1, ["one"]), fault=Fault.KILL, rate=RATE, rows=COUNT, ordered=True)
ROWS = {f"row {n}": Row(n, n, "ab"[n % 2]) for n in range(COUNT)}
KILLED = 200
CURSOR = 190
KILL = Break(epoch=1, at_us=KILLED * STEP_US)


def got(n: int, epoch: int = 1, at_us: int | None = None) -> Got:
    """A message of this row; by default it was published when it was due."""
    body = orjson.dumps({"n": n, "symbol": "ab"[n % 2]})
    published_us = n * STEP_US if at_us is None else at_us
    return Got(f"{epoch}/{n}/{published_us}", f"row {n}", epoch, "ab"[n % 2], published_us, body)


BEFORE = [got(n) for n in range(KILLED)]
AFTER = [got(n, 2, KILLED * STEP_US + SILENCE_US + n) for n in range(CURSOR, COUNT)]


def verdict(messages: Sequence[Got], breaks: Sequence[Break] = (KILL,), planned: Plan = PLAN) -> Verdict:
    return judge(planned, ROWS, breaks, messages)


def test_a_takeover_that_resumes_at_the_cursor_keeps_every_promise() -> None:
    found = verdict([*BEFORE, *AFTER])
    assert found.broken == []
    assert (found.rows, found.lost, found.doubles) == (COUNT, 0, KILLED - CURSOR)
    assert found.takeovers == [pytest.approx(1.2, abs=0.001)]


def test_what_the_broker_delivers_again_is_no_double() -> None:
    assert verdict([*BEFORE, *BEFORE, *AFTER]).doubles == KILLED - CURSOR


def test_a_row_is_missed() -> None:
    assert verdict([*BEFORE, *AFTER[:-1]]).broken == ["1 rows lost"]


def test_a_row_that_the_source_does_not_have_is_noticed() -> None:
    assert (
        "1 rows that are not in the source"
        in verdict([*BEFORE, *AFTER, replace(AFTER[-1], row_id="x", message_id="x")]).broken
    )


def test_a_row_that_is_not_as_in_the_source_is_noticed() -> None:
    spoilt = replace(AFTER[-1], data=b'{"n": 0, "symbol": "a"}')
    assert verdict([*BEFORE, *AFTER[:-1], spoilt]).broken == ["1 rows are not as in the source"]


def test_more_doubles_than_a_checkpoint_can_miss_are_too_many() -> None:
    again = [got(n, 2, KILLED * STEP_US + SILENCE_US) for n in range(KILLED - in_flight(RATE) - 30, CURSOR)]
    [broken] = verdict([*BEFORE, *again, *AFTER]).broken
    assert broken == f"{in_flight(RATE) + 30:,} doubles, {in_flight(RATE) + 25:,} allowed"


def test_without_a_pace_as_many_as_were_published_in_a_checkpoint_s_time_may_be_doubles() -> None:
    unpaced = replace(PLAN, rate=None)
    assert verdict([*BEFORE, *AFTER], planned=unpaced).allowed == RATE / 4 + in_flight(None)
    assert verdict(
        [got(n, at_us=n * STEP_US // 4) for n in range(KILLED)], planned=unpaced
    ).allowed == RATE + in_flight(None)


def test_without_a_break_there_are_no_doubles() -> None:
    calm = [got(n) for n in range(COUNT)]
    assert verdict(calm, []).broken == []
    assert verdict([*calm, got(7, at_us=1)], []).broken == ["1 doubles, 0 allowed"]


def test_rows_of_a_key_may_not_overtake_each_other_and_of_two_keys_may() -> None:
    calm = [got(n) for n in range(COUNT)]
    calm[10], calm[11] = calm[11], calm[10]
    assert verdict(calm, []).broken == []
    calm[20], calm[22] = calm[22], calm[20]
    assert verdict(calm, []).broken == ["1 rows behind later ones of their key"]


def test_without_ordering_keys_rows_overtake_each_other_within_what_is_under_way_only() -> None:
    rows = {f"row {n}": Row(n, n, "ab"[n % 2]) for n in range(10_000)}
    calm = [got(n) for n in range(10_000)]
    unordered = replace(PLAN, ordered=False)
    assert judge(unordered, rows, [], [*calm[1:1_000], replace(calm[0], published_us=STEP_US * 999)]).overtaken == 999
    calm[0] = replace(calm[0], published_us=STEP_US * 9_000 + 1)
    assert judge(unordered, rows, [], calm).broken == ["a row came 9,000 rows late, 8,000 allowed"]


def test_a_holder_that_goes_on_after_it_woke_up_is_noticed() -> None:
    woke_us = KILLED * STEP_US + 2 * SILENCE_US
    late = [got(n, 1, woke_us + 1 + n) for n in range(in_flight(RATE) + 1)]
    broken = verdict([*BEFORE, *AFTER, *late], [replace(KILL, woke_us=woke_us)]).broken
    assert f"{len(late)} messages after the holder woke up, {in_flight(RATE)} allowed" in broken
    assert f"{len(late)} messages of an epoch that was over, {in_flight(RATE)} allowed" in broken


def test_a_silence_that_nobody_ends_is_noticed() -> None:
    assert "1 silences that nobody ended" in verdict(BEFORE).broken


def test_a_clock_that_was_stepped_lets_no_row_go_before_it_is_due() -> None:
    stepped = replace(PLAN, fault=Fault.CLOCKS)
    calm = [got(n) for n in range(COUNT)]
    assert verdict(calm, [], stepped).broken == []
    ahead = [*calm[:200], *(got(n, at_us=200 * STEP_US + n) for n in range(200, COUNT))]
    [broken] = verdict(ahead, [], stepped).broken
    assert broken == "a row came 2.0 s before it was due"


@pytest.mark.parametrize(
    ("fault", "allowed"),
    [(Fault.CLOCKS, 2.0), (Fault.STORE_SLOW, 2.0), (Fault.STORE_AWAY, 7.0), (Fault.DISK_FULL, 7.0), (Fault.CUT, None)],
)
def test_a_row_may_be_held_back_for_as_long_as_its_store_was_away_and_little_longer(
    fault: Fault, allowed: float | None
) -> None:
    held = replace(PLAN, fault=fault, length=1.0)
    for seconds in (1.9, 6.9, 60.0):
        until_us = 200 * STEP_US + round(seconds * 1e6)
        late = [got(n, at_us=max(n * STEP_US, until_us) if n >= 200 else None) for n in range(COUNT)]
        wrong = [
            words for words in verdict(late, [], held).broken if words.endswith("s allowed") and " late, " in words
        ]
        assert bool(wrong) == (allowed is not None and seconds > allowed)
