"""The tap on a real wire: what arrived and when, for several probes at once, and what a broker that is away means."""

import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rejeu.errors import RejeuError
from rejeu.gcp.topics import TAP_EXPIRATION, TAP_RETENTION, ensure_tap
from rejeu.ports import Reason, Signal
from rejeu.spec.model import StreamSpec
from rejeu.target import Target
from rejeu.watchdog.probes.tap import PULL_MESSAGES, TapProbe
from tests.emulated.pubsub_feed import PROJECT, PROJECT_ID, Feed, PubSubServer, bodies

pytestmark = pytest.mark.emulated

SILENCE = timedelta(seconds=16)
TICK = timedelta(microseconds=1)
TARGET = Target(project=PROJECT_ID)


@pytest.fixture
def tapped(feed: Feed) -> Feed:
    """The feed, whose subscription is its topic's tap."""
    spec = _spec(feed)
    ensure_tap(feed.subscriber, spec, TARGET)
    return replace(feed, subscription=TARGET.subscription(spec.tap))


def _spec(feed: Feed) -> StreamSpec:
    return StreamSpec.model_validate(
        {
            "stream": "clicks",
            "event_time": "at",
            "live": {"topic": feed.topic.rpartition("/")[2], "table": "web.clicks"},
            "watchdog": {"probe": "tap"},
        }
    )


def _probe(feed: Feed, last_seen: datetime | None = None) -> TapProbe:
    return TapProbe(feed.subscription, SILENCE, last_seen)


def _last_seen(probe: TapProbe) -> datetime:
    seen = probe.check(datetime.now(UTC)).last_seen
    assert seen is not None
    return seen


def _whole_millisecond() -> datetime:
    """Now, as Google's emulator says it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def test_a_tap_keeps_little_goes_by_itself_and_is_made_once(tapped: Feed) -> None:
    ensure_tap(tapped.subscriber, _spec(tapped), TARGET)
    made = tapped.subscriber.get_subscription(subscription=tapped.subscription)
    assert made.message_retention_duration == TAP_RETENTION
    assert made.expiration_policy.ttl == TAP_EXPIRATION
    assert not made.enable_message_ordering


def test_the_signal_flows_where_a_message_came(tapped: Feed) -> None:
    before = _whole_millisecond()
    tapped.publish(b"x")
    verdict = _probe(tapped).check(now := datetime.now(UTC))
    assert (verdict.signal, verdict.probe) == (Signal.FLOWING, "tap")
    assert verdict.last_seen is not None
    assert before <= verdict.last_seen <= now
    assert verdict.look_again == verdict.last_seen + SILENCE


def test_silence_counts_from_the_last_message(tapped: Feed) -> None:
    tapped.publish(b"x")
    probe = _probe(tapped)
    last_seen = _last_seen(probe)
    assert probe.check(last_seen + SILENCE - TICK).signal is Signal.FLOWING
    verdict = probe.check(last_seen + SILENCE)
    assert (verdict.signal, verdict.reason) == (Signal.SILENT, Reason.NOTHING_ARRIVES)
    assert (verdict.last_seen, verdict.lost_at) == (last_seen, last_seen)
    assert tapped.subscription in verdict.detail


def test_the_signal_flows_again_with_the_next_message(tapped: Feed) -> None:
    probe = _probe(tapped, last_seen=datetime.now(UTC) - SILENCE)
    assert probe.check(datetime.now(UTC)).signal is Signal.SILENT
    tapped.publish(b"x")
    assert probe.check(datetime.now(UTC)).signal is Signal.FLOWING


def test_a_new_probe_counts_from_its_first_check_where_no_message_ever_came(tapped: Feed) -> None:
    probe = _probe(tapped)
    made = datetime.now(UTC)
    assert probe.check(made).signal is Signal.UNKNOWN
    assert probe.check(made + SILENCE - TICK).signal is Signal.UNKNOWN
    verdict = probe.check(made + SILENCE)
    assert (verdict.signal, verdict.last_seen, verdict.lost_at) == (Signal.SILENT, None, made)


def test_what_is_excused_is_no_silence(tapped: Feed) -> None:
    tapped.publish(b"x")
    probe = _probe(tapped)
    last_seen = _last_seen(probe)
    probe.excuse(last_seen + SILENCE)
    assert probe.check(last_seen + 2 * SILENCE - TICK).signal is Signal.UNKNOWN
    assert probe.check(last_seen + 2 * SILENCE).signal is Signal.SILENT


def test_a_new_probe_knows_what_the_one_before_it_saw(tapped: Feed) -> None:
    tapped.publish(b"x", b"y")
    last_seen = _last_seen(_probe(tapped))
    verdict = _probe(tapped).check(last_seen + SILENCE)
    assert (verdict.signal, verdict.lost_at) == (Signal.SILENT, last_seen)


def test_probes_that_share_a_tap_take_nothing_from_each_other(tapped: Feed) -> None:
    probes = [_probe(tapped), _probe(tapped)]
    for _ in range(3):
        before = _whole_millisecond()
        tapped.publish(b"x", b"y")
        one, other = (probe.check(datetime.now(UTC) + SILENCE / 2).last_seen for probe in probes)
        assert one is not None
        assert before <= one == other


def test_what_two_pulls_leave_is_dropped_unread(tapped: Feed) -> None:
    tapped.publish(*[b"x"] * (10 * PULL_MESSAGES))
    probe = _probe(tapped)
    probe.check(datetime.now(UTC) + SILENCE)
    tapped.publish(b"new")
    assert bodies(tapped.pull()) == [b"new"]


def test_what_was_dropped_unread_is_not_held_to_be_silence(tapped: Feed) -> None:
    tapped.publish(*[b"x"] * (10 * PULL_MESSAGES))
    probe = _probe(tapped)
    now = datetime.now(UTC) + SILENCE
    assert probe.check(now).signal is Signal.UNKNOWN
    dropped = now - SILENCE / 4
    assert probe.check(dropped + SILENCE - TICK).signal is Signal.UNKNOWN
    assert probe.check(dropped + SILENCE).signal is Signal.SILENT


def test_a_missing_tap_is_an_error_that_says_what_makes_it(feed: Feed) -> None:
    with pytest.raises(RejeuError, match=r"missing-tap cannot be read: 404 .* run the stream's live DAG"):
        TapProbe(f"{PROJECT}/subscriptions/missing-tap", SILENCE).check(datetime.now(UTC))


KILL: Callable[[PubSubServer], None] = PubSubServer.kill


def _pause(server: PubSubServer) -> None:
    server._process.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize("strike", [KILL, _pause], ids=["killed", "paused"])
def test_a_broker_that_is_away_is_not_silence(strike: Callable[[PubSubServer], None]) -> None:
    server = PubSubServer("built-in")
    server.start()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PUBSUB_EMULATOR_HOST", server.address)
        probe = TapProbe(f"{PROJECT}/subscriptions/any-tap", SILENCE, last_seen=datetime.now(UTC))
        strike(server)
        verdict = probe.check(datetime.now(UTC) + 2 * SILENCE)
    server.kill()
    assert verdict.signal is Signal.UNKNOWN
    assert "does not answer" in verdict.detail
