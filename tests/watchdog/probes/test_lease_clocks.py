"""A watcher and a holder whose clocks differ, or are stepped: no living replay is dead, and a dead one is found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from rejeu.ports import Signal, Verdict
from rejeu.state import lease_watch
from rejeu.state.model import Status, StreamState
from rejeu.testing import MemoryStore
from rejeu.watchdog.probes.heartbeat import HeartbeatProbe

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
CHECKPOINT, LEASE, SILENCE, LONGEST = 1.0, 5.0, 5.0, 5.0
STEPS = [1, 3, 7, 60, 3600, -1, -3, -7, -60, -3600]


class Scene:
    """A replay that renews its lease until it dies, and one who watches it as the trigger does; seconds since noon."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.ahead = self.stepped = 0.0
        """By how much the watcher's clock and the holder's differ from the true one."""
        self.death = float("inf")
        self._renewed_at, self._heartbeat = 0.0, NOON
        self.probe = self.another()
        patch.setattr(lease_watch, "elapsed", lambda: 100 + self.now)

    def another(self) -> HeartbeatProbe:
        return HeartbeatProbe(MemoryStore(), "clicks", timedelta(seconds=SILENCE), timedelta(seconds=30))

    @property
    def state(self) -> StreamState:
        renewed_at = min(self.now, self.death) // CHECKPOINT * CHECKPOINT
        if renewed_at > self._renewed_at or renewed_at == 0:
            self._renewed_at, self._heartbeat = renewed_at, NOON + timedelta(seconds=renewed_at + self.stepped)
        said = {"heartbeat": self._heartbeat, "next_due": self._heartbeat, "last_published": self._heartbeat}
        until = self._heartbeat + timedelta(seconds=LEASE)
        return StreamState(stream="clicks", epoch=3, holder="h:1", status=Status.RUNNING, lease_until=until, **said)

    def look(self) -> Verdict:
        return self.probe.judge(self.state, NOON + timedelta(seconds=self.now + self.ahead))

    def watch(self, until: float) -> Iterator[Verdict]:
        while self.now < until:
            verdict = self.look()
            yield verdict
            pause = LONGEST
            if verdict.unsure_seconds:
                pause = verdict.unsure_seconds
            elif verdict.look_again is not None:
                ours = NOON + timedelta(seconds=self.now + self.ahead)
                pause = max(0.05, min((verdict.look_again - ours).total_seconds(), LONGEST))
            self.now += pause


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def is_certain(verdict: Verdict) -> bool:
    return verdict.signal is Signal.SILENT and verdict.unsure_seconds == 0


@pytest.mark.parametrize("seconds", [0, *STEPS])
def test_a_living_replay_is_never_dead_however_clocks_differ(scene: Scene, seconds: float) -> None:
    scene.ahead = seconds
    assert not any(map(is_certain, scene.watch(100)))
    assert scene.look().signal is Signal.FLOWING, "once the watcher knows the holder's clock"


@pytest.mark.parametrize("seconds", STEPS)
def test_a_step_of_the_watchers_clock_makes_no_living_replay_dead(scene: Scene, seconds: float) -> None:
    assert not any(map(is_certain, scene.watch(30)))
    scene.ahead = seconds
    assert not any(map(is_certain, scene.watch(130)))


@pytest.mark.parametrize("seconds", STEPS)
def test_a_step_of_the_holders_clock_makes_it_not_dead(scene: Scene, seconds: float) -> None:
    assert not any(map(is_certain, scene.watch(30)))
    scene.stepped = seconds
    assert not any(map(is_certain, scene.watch(130)))


@pytest.mark.parametrize("seconds", [0, *STEPS])
@pytest.mark.parametrize("death", [40.0, 41.3, 42.9, 44.5])
def test_a_dead_replay_is_found_however_clocks_differ(scene: Scene, seconds: float, death: float) -> None:
    scene.ahead, scene.death = seconds, death
    found = next(scene.now for verdict in scene.watch(100) if is_certain(verdict))
    late = 0.4 * LEASE if seconds == 0 else LEASE + CHECKPOINT
    assert found <= death + max(LEASE, SILENCE) + late


def test_where_clocks_agree_a_dead_replay_is_mostly_found_as_soon_as_its_lease_has_run_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late = []
    for tenth in range(50):
        scene = Scene(monkeypatch)
        scene.death = 40 + tenth / 10
        found = next(scene.now for verdict in scene.watch(100) if is_certain(verdict))
        late.append(found - scene.death // CHECKPOINT * CHECKPOINT - LEASE)
    assert sorted(late)[len(late) // 2] <= 0.1


def test_a_silence_that_another_has_watched_is_certain_at_first_sight(scene: Scene) -> None:
    scene.death, scene.now = 3.0, 30.0
    first = scene.look()
    assert (first.signal, first.unsure_seconds) == (Signal.SILENT, LEASE), "it may be renewed at this moment"
    scene.probe = scene.another()
    scene.probe.lease.believe(frozenset({first.lease}))
    assert is_certain(scene.look())


def test_a_lease_that_was_watched_and_then_renewed_is_watched_again(scene: Scene) -> None:
    scene.ahead = 7
    scene.probe.lease.believe(frozenset({scene.look().lease}))
    scene.now = 10
    assert not is_certain(scene.look())


def test_a_replay_that_gave_its_lease_up_is_gone_at_once(scene: Scene) -> None:
    gone = scene.state.model_copy(update={"holder": None, "lease_until": None, "status": Status.FAILED})
    assert is_certain(scene.probe.judge(gone, NOON + timedelta(seconds=10)))
