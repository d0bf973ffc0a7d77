"""The rules that every probe keeps which is asked beside the heartbeat, as a class of tests for a probe's author.

class TestMine(ProbeContract):
    name = "mine"

    @pytest.fixture
    def rig(self) -> Iterator[ProbeRig]: ...
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final, Protocol

from rejeu.ports import Signal, Verdict, Witness

NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
STEP: Final = timedelta(seconds=1)


class ProbeRig(Protocol):
    """A topic that a test publishes to, and probes that watch it with a silence of `silence`."""

    silence: timedelta
    delay: timedelta
    """How much later than `silence` the probe is certain, at most."""

    def probe(self, last_seen: datetime | None = None) -> Witness:
        """A probe that has seen nothing yet, made by the `make` of its record."""
        ...

    def publish(self, at: datetime) -> None:
        """One message, published and delivered at this instant."""
        ...

    def look(self, probe: Witness, now: datetime) -> Verdict:
        """What the probe says when the clock shows this."""
        ...

    def go_away(self) -> None:
        """What the probe asks no longer answers."""
        ...


class ProbeContract:
    """Subclass it, give `name`, and a fixture `rig`."""

    name: ClassVar[str]
    """The name that specs call the probe by."""

    def test_nothing_that_came_yet_is_no_silence_at_first(self, rig: ProbeRig) -> None:
        assert rig.look(rig.probe(), NOON).signal is Signal.UNKNOWN

    def test_a_signal_flows_and_is_dated(self, rig: ProbeRig) -> None:
        verdict = self._flow(rig, rig.probe())
        assert verdict.last_seen is not None
        assert verdict.last_seen <= NOON

    def test_silence_is_seen_in_time_and_not_before(self, rig: ProbeRig) -> None:
        probe = rig.probe()
        self._flow(rig, probe)
        assert rig.look(probe, NOON + rig.silence - STEP).signal is not Signal.SILENT
        verdict = rig.look(probe, NOON + rig.silence + rig.delay + STEP)
        assert verdict.signal is Signal.SILENT
        assert verdict.reason is not None
        assert verdict.lost_at is not None
        assert verdict.lost_at <= NOON + rig.delay

    def test_every_verdict_bears_the_probes_name(self, rig: ProbeRig) -> None:
        probe = rig.probe()
        for now in (NOON, NOON + rig.silence + rig.delay + STEP):
            assert rig.look(probe, now).probe == self.name

    def test_what_was_excused_is_no_silence_until_it_lasts_anew(self, rig: ProbeRig) -> None:
        probe = rig.probe()
        self._flow(rig, probe)
        later = NOON + 2 * (rig.silence + rig.delay)
        probe.excuse(later)
        assert rig.look(probe, later + rig.silence - STEP).signal is not Signal.SILENT
        assert rig.look(probe, later + rig.silence + rig.delay + STEP).signal is Signal.SILENT

    def test_an_excuse_goes_never_back(self, rig: ProbeRig) -> None:
        probe = rig.probe()
        later = NOON + 2 * (rig.silence + rig.delay)
        probe.excuse(later)
        probe.excuse(NOON)
        assert rig.look(probe, later + rig.silence - STEP).signal is not Signal.SILENT

    def test_it_says_when_to_look_again_and_not_in_the_past(self, rig: ProbeRig) -> None:
        again = self._flow(rig, rig.probe()).look_again
        assert again is None or again > NOON

    def test_who_does_not_answer_is_not_silent(self, rig: ProbeRig) -> None:
        probe = rig.probe()
        self._flow(rig, probe)
        rig.go_away()
        verdict = rig.look(probe, NOON + rig.silence + rig.delay + STEP)
        assert verdict.signal is Signal.UNKNOWN
        assert verdict.detail

    def _flow(self, rig: ProbeRig, probe: Witness) -> Verdict:
        """Messages come until noon, long enough for the probe to know of them."""
        for seconds in range(60 + 2 * int(rig.delay.total_seconds()), -1, -1):
            rig.publish(NOON - seconds * STEP)
        verdict = rig.look(probe, NOON)
        assert verdict.signal is Signal.FLOWING
        return verdict
