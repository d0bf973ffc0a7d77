"""Several probes as one: the heartbeat knows what is due, and only what another saw since can contradict a silence."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejeu.ports import Missing, Reason, Signal, Verdict
from rejeu.timeline import parse_instant
from rejeu.watchdog.probes.combined import combine, look

NOW = parse_instant("2026-11-20T12:00:00Z")
SECOND = timedelta(seconds=1)
ASKED_FURTHER = {Signal.FLOWING, Signal.SILENT}
"""What a heartbeat may say that another probe may contradict."""

instants = st.sampled_from([NOW - n * SECOND for n in range(6)])  # few: that they meet is what matters
later = st.none() | st.integers(0, 60).map(lambda seconds: NOW + seconds * SECOND)
heartbeats = st.builds(
    Verdict,
    st.sampled_from(Signal),
    last_seen=instants,
    lost_at=instants,
    detail=st.just("it died"),
    reason=st.sampled_from(Reason),
    missing=st.frozensets(st.sampled_from(Missing)),
    look_again=later,
)


@st.composite
def _witnesses(draw: st.DrawFn, probe: str) -> Verdict:
    """What a tap or a metric may say: where it is silent, it saw the signal no later than it was lost."""
    seen, lost = sorted([draw(instants), draw(instants)])
    signal = draw(st.sampled_from([Signal.SILENT, Signal.FLOWING, Signal.UNKNOWN]))
    if signal is Signal.SILENT:
        return Verdict(signal, seen, lost, reason=Reason.NOTHING_ARRIVES, probe=probe)
    return Verdict(signal, lost, probe=probe, look_again=draw(later))


taps, metrics = _witnesses("tap"), _witnesses("metric")
witnesses = st.one_of(st.tuples(taps, metrics), st.tuples(metrics, taps), st.tuples(taps), st.tuples(metrics)).map(list)


def _saw_since(lost_at: datetime | None, others: Sequence[Verdict]) -> bool:
    flowing = [other.last_seen for other in others if other.signal is Signal.FLOWING]
    return any(lost_at is not None and seen is not None and seen > lost_at for seen in flowing)


@given(heartbeats.filter(lambda verdict: verdict.signal not in ASKED_FURTHER), witnesses)
def test_a_heartbeat_that_knows_why_nobody_publishes_stands(heartbeat: Verdict, others: list[Verdict]) -> None:
    combined = combine(heartbeat, others)
    assert replace(combined, probe=heartbeat.probe, look_again=heartbeat.look_again) == heartbeat


@given(heartbeats, witnesses)
def test_a_relaunch_needs_a_silent_heartbeat_and_nobody_who_saw_the_signal_since(
    heartbeat: Verdict, others: list[Verdict]
) -> None:
    silent = heartbeat.signal is Signal.SILENT and not _saw_since(heartbeat.lost_at, others)
    assert combine(heartbeat, others).signal.needs_relaunch == silent


@given(heartbeats.map(lambda verdict: replace(verdict, signal=Signal.SILENT)), witnesses)
def test_a_silence_keeps_what_the_heartbeat_says_of_it(heartbeat: Verdict, others: list[Verdict]) -> None:
    combined = combine(heartbeat, others)
    if combined.signal is Signal.SILENT:
        assert replace(combined, probe=heartbeat.probe, look_again=heartbeat.look_again) == heartbeat
    else:
        assert combined.signal is Signal.FLOWING
        assert combined.lost_at is combined.reason is None


@given(heartbeats.map(lambda verdict: replace(verdict, signal=Signal.FLOWING)), witnesses)
def test_rows_are_undelivered_where_another_is_silent_since_before_they_were_acknowledged(
    heartbeat: Verdict, others: list[Verdict]
) -> None:
    combined = combine(heartbeat, others)
    believed = [
        other
        for other in others
        if other.signal is Signal.SILENT
        and (other.lost_at or NOW) < (heartbeat.last_seen or NOW)
        and not _saw_since(other.lost_at, [each for each in others if each.probe == "tap"])
    ]
    assert combined.signal is (Signal.UNDELIVERED if believed else Signal.FLOWING)
    if believed:
        assert (combined.lost_at, combined.reason) == (believed[0].lost_at, believed[0].reason)


@given(witnesses)
def test_without_a_heartbeat_a_silence_counts_unless_another_saw_the_signal_since(others: list[Verdict]) -> None:
    believed = [each for each in others if each.signal is Signal.SILENT and not _saw_since(each.lost_at, others)]
    assert (combine(None, others).signal is Signal.SILENT) == bool(believed)


@given(st.none() | heartbeats, witnesses)
def test_the_verdict_names_all_that_spoke_and_looks_again_with_the_first(
    heartbeat: Verdict | None, others: list[Verdict]
) -> None:
    combined = combine(heartbeat, others)
    spoken = [heartbeat, *others] if heartbeat else others
    assert combined.probe == "+".join(each.probe for each in spoken)
    assert combined.look_again == min((each.look_again for each in spoken if each.look_again), default=None)
    assert combined.missing == (heartbeat.missing if heartbeat else frozenset())


def test_a_metric_that_counts_publishes_does_not_deny_that_none_arrive() -> None:
    heartbeat, metric = Verdict(Signal.FLOWING, NOW), Verdict(Signal.FLOWING, NOW - SECOND, probe="metric")
    tap = Verdict(Signal.SILENT, lost_at=NOW - 5 * SECOND, probe="tap")
    assert combine(heartbeat, [tap, metric]).signal is Signal.UNDELIVERED


def test_a_tap_that_sees_messages_denies_that_none_arrive() -> None:
    heartbeat, tap = Verdict(Signal.FLOWING, NOW), Verdict(Signal.FLOWING, NOW - SECOND, probe="tap")
    metric = Verdict(Signal.SILENT, lost_at=NOW - 5 * SECOND, probe="metric")
    assert combine(heartbeat, [tap, metric]).signal is Signal.FLOWING


def test_who_contradicts_a_silence_is_said() -> None:
    silent = Verdict(Signal.SILENT, lost_at=NOW - 5 * SECOND, detail="epoch 3 was heard of no more")
    tap = Verdict(Signal.FLOWING, NOW - SECOND, probe="tap")
    combined = combine(silent, [tap])
    assert (combined.signal, combined.last_seen) == (Signal.FLOWING, tap.last_seen)
    assert combined.detail.startswith("tap has seen the signal since")
    assert combined.detail.endswith("epoch 3 was heard of no more")


class _Witness:
    """Says that it is silent, and remembers what it was told."""

    def __init__(self) -> None:
        self.checked: list[datetime] = []
        self.excused: list[datetime] = []

    def check(self, now: datetime) -> Verdict:
        self.checked.append(now)
        return Verdict(Signal.SILENT, lost_at=NOW - SECOND, probe="tap")

    def excuse(self, until: datetime) -> None:
        self.excused.append(until)


@pytest.mark.parametrize("signal", sorted(set(Signal) - ASKED_FURTHER))
def test_a_witness_is_excused_and_not_asked_where_nothing_need_be_published(signal: Signal) -> None:
    witness, heartbeat = _Witness(), Verdict(signal)
    assert look(heartbeat, [witness], NOW) is heartbeat
    assert (witness.checked, witness.excused) == ([], [NOW])


@pytest.mark.parametrize("heartbeat", [None, Verdict(Signal.FLOWING, NOW), Verdict(Signal.SILENT, lost_at=NOW)])
def test_a_witness_is_asked_where_rows_are_due(heartbeat: Verdict | None) -> None:
    witness = _Witness()
    assert look(heartbeat, [witness], NOW).probe.endswith("tap")
    assert (witness.checked, witness.excused) == ([NOW], [])
