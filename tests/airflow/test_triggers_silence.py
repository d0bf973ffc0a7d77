"""The watch in the triggerer: what it tells and when, how often it looks, and that a restart changes neither."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from rejeu.airflow.triggers import SilenceTrigger, events, watching
from rejeu.airflow.triggers.events import CALLING
from rejeu.airflow.triggers.watching import (
    LONG_REMINDER_SECONDS,
    REMINDER_SECONDS,
    RESTORE_SECONDS,
    SHORTEST_LOOK_SECONDS,
)
from rejeu.errors import LaunchError, StateError
from rejeu.jobs.build import stream_job_request
from rejeu.ports import JobState, Missing, Reason, Signal, Verdict
from rejeu.spec.model import StreamSpec
from rejeu.target import Target
from rejeu.testing import FakeLauncher, MemoryStore
from rejeu.timeline import parse_instant
from rejeu.watchdog.watch import WatchPlan
from tests.airflow.builders import STREAM, ago, dead, fired, remember, revive, text

START = parse_instant("2026-11-20T12:00:00Z")
LOOK = 1.2
"""Seconds between two looks where nothing says otherwise."""
WELL, SILENT, UNDELIVERED = (Verdict(signal) for signal in (Signal.FLOWING, Signal.SILENT, Signal.UNDELIVERED))
ALONE = Verdict(Signal.FLOWING, missing=frozenset({Missing.STANDBY}))
SILENT_TOO = Verdict(Signal.SILENT, missing=frozenset({Missing.STREAM_JOB}))

Script = Mapping[float, Verdict | Exception]
"""What is seen from so many seconds after the start on."""


class Ended(Exception):
    """The triggerer was killed."""


class Wall(datetime):
    """A wall clock that stands still until somebody sleeps."""

    at = START

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return cls.at

    @classmethod
    def passed(cls) -> float:
        return round((cls.at - START).total_seconds(), 6)


class Triggerer:
    """Runs a trigger for a while, by its own clock, and remembers when it looked and what it told when."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.looked: list[float] = []
        self.told: list[tuple[float, dict[str, Any]]] = []
        self.made: list[tuple[Any, ...]] = []
        self._until = 0.0
        patch.setattr(Wall, "at", START)
        for module in (watching, events):
            patch.setattr(module, "datetime", Wall)
        patch.setattr(watching, "Watch", self._watch)
        patch.setattr(watching.asyncio, "sleep", self._sleep)

    def watch(self, trigger: SilenceTrigger, script: Script, seconds: float) -> list[float]:
        """When it told something while the watch saw this, until it was killed after so many seconds."""
        self._script, self._until, before = script, Wall.passed() + seconds, len(self.told)

        async def listen() -> None:
            async for event in trigger.run():
                self.told.append((Wall.passed(), event.payload))

        with pytest.raises(Ended):
            asyncio.run(listen())
        return [at for at, _ in self.told[before:]]

    def _watch(self, *arguments: Any) -> SimpleNamespace:
        self.made.append(arguments)
        return SimpleNamespace(look=self._look)

    def _look(self, now: datetime) -> Verdict:
        self.looked.append(Wall.passed())
        seen = self._script[max(at for at in self._script if at <= Wall.passed())]
        if isinstance(seen, Exception):
            raise seen
        return seen

    async def _sleep(self, seconds: float) -> None:
        Wall.at += timedelta(seconds=seconds)
        if Wall.passed() > self._until:
            raise Ended


@pytest.fixture
def silence(spec_with: Callable[..., StreamSpec], target: Target) -> SilenceTrigger:
    """A silence so short that a lease is the longest that nobody looks."""
    return SilenceTrigger.watching(spec_with(watchdog={"silence": "2s"}), target)


@pytest.fixture
def triggerer(monkeypatch: pytest.MonkeyPatch) -> Triggerer:
    return Triggerer(monkeypatch)


# Silence


def test_silence_is_told_with_what_is_known_of_it(silence: SilenceTrigger, triggerer: Triggerer) -> None:
    seen = Verdict(
        Signal.SILENT,
        last_seen=START - timedelta(seconds=2),
        lost_at=START - timedelta(seconds=1),
        detail="epoch 3 was last heard of at noon",
        reason=Reason.DIED,
        probe="heartbeat+tap",
        missing=frozenset({Missing.STREAM_JOB, Missing.STANDBY}),
        lease="3/2026-11-20T11:59:59.000000Z",
    )
    triggerer.watch(silence, {0: seen}, 1)
    ((_, event),) = triggerer.told
    assert event == {
        "stream": STREAM,
        "signal": "SILENT",
        "reason": "DIED",
        "missing": ["STANDBY", "STREAM_JOB"],
        "detected_at": "2026-11-20T12:00:00.000000Z",
        "lost_at": "2026-11-20T11:59:59.000000Z",
        "last_seen": "2026-11-20T11:59:58.000000Z",
        "probe": "heartbeat+tap",
        "detail": "epoch 3 was last heard of at noon",
        "lease": "3/2026-11-20T11:59:59.000000Z",
    }
    assert json.loads(json.dumps(event)) == event


def test_a_silence_is_told_once_it_is_certain(silence: SilenceTrigger, triggerer: Triggerer) -> None:
    unsure = Verdict(Signal.SILENT, unsure_seconds=2.0)
    assert triggerer.watch(silence, {0: unsure, 2: Verdict(Signal.SILENT)}, 10) == [2]


def test_a_silence_that_never_becomes_certain_is_not_told(silence: SilenceTrigger, triggerer: Triggerer) -> None:
    assert triggerer.watch(silence, {0: Verdict(Signal.SILENT, unsure_seconds=2.0)}, 60) == []


@pytest.mark.parametrize("signal", Signal)
def test_only_a_silence_and_what_is_not_delivered_call_for_somebody(
    silence: SilenceTrigger, triggerer: Triggerer, signal: Signal
) -> None:
    assert bool(triggerer.watch(silence, {0: Verdict(signal)}, 60)) is (signal in CALLING)
    assert {Signal.SILENT, Signal.UNDELIVERED} == CALLING


def test_a_silence_that_lasts_is_told_again_every_half_minute(silence: SilenceTrigger, triggerer: Triggerer) -> None:
    assert triggerer.watch(silence, {0: SILENT}, 65) == [0, REMINDER_SECONDS, 2 * REMINDER_SECONDS]


def test_what_nobody_here_can_mend_is_told_again_every_ten_minutes(
    silence: SilenceTrigger, foreign_spec: StreamSpec, target: Target, triggerer: Triggerer
) -> None:
    assert triggerer.watch(silence, {0: UNDELIVERED}, 700) == [0, LONG_REMINDER_SECONDS]
    begun = Wall.passed()
    again = triggerer.watch(SilenceTrigger.watching(foreign_spec, target), {0: SILENT}, 700)
    assert [at - begun for at in again] == [0, LONG_REMINDER_SECONDS]


def test_a_new_silence_is_told_at_once(silence: SilenceTrigger, triggerer: Triggerer) -> None:
    script = {0: SILENT, 2: Verdict(Signal.STARTING), 4: WELL, 6: SILENT}
    assert triggerer.watch(silence, script, 20) == [0, 6]


@pytest.mark.parametrize("calling", [SILENT, UNDELIVERED])
def test_a_silence_is_told_at_once_though_another_need_was_just_told(
    silence: SilenceTrigger, triggerer: Triggerer, calling: Verdict
) -> None:
    assert triggerer.watch(silence, {0: ALONE, 1: calling, 2: SILENT_TOO}, 10) == [0, LOOK, 2 * LOOK]


# Lacking parts


def test_a_part_that_lacks_is_told_though_the_signal_flows(silence: SilenceTrigger, triggerer: Triggerer) -> None:
    triggerer.watch(silence, {0: ALONE}, 1)
    ((_, event),) = triggerer.told
    assert (event["signal"], event["missing"], event["lost_at"]) == ("FLOWING", ["STANDBY"], None)


def test_a_part_that_lacks_after_a_while_of_health_is_told_at_once(
    silence: SilenceTrigger, triggerer: Triggerer
) -> None:
    assert triggerer.watch(silence, {0: WELL, 6: ALONE}, 20) == [6]


def test_a_part_that_comes_and_goes_is_not_restored_in_a_loop(silence: SilenceTrigger, triggerer: Triggerer) -> None:
    comes_and_goes = {at: (ALONE, WELL)[at % 2] for at in range(30)}
    told = triggerer.watch(silence, comes_and_goes, 30)
    assert len(told) == 3
    assert all(after - before >= RESTORE_SECONDS for before, after in itertools.pairwise(told))


def test_a_part_that_stays_away_is_told_again_every_half_minute(silence: SilenceTrigger, triggerer: Triggerer) -> None:
    assert triggerer.watch(silence, {0: ALONE}, 65) == [0, REMINDER_SECONDS, 2 * REMINDER_SECONDS]


def test_what_still_lacks_when_a_silence_is_over_is_told_a_little_later(
    silence: SilenceTrigger, triggerer: Triggerer
) -> None:
    told = triggerer.watch(silence, {0: SILENT_TOO, 3: ALONE}, 20)
    assert told == [0, pytest.approx(RESTORE_SECONDS, abs=LOOK)]


# Restarts


def test_a_silence_that_began_while_the_triggerer_was_dead_is_told(
    silence: SilenceTrigger, triggerer: Triggerer
) -> None:
    assert triggerer.watch(silence, {0: SILENT}, 1) == [0]


@pytest.mark.parametrize(("seen", "again"), [(SILENT, REMINDER_SECONDS), (ALONE, REMINDER_SECONDS)])
def test_a_restart_of_the_triggerer_neither_floods_nor_forgets(
    silence: SilenceTrigger, triggerer: Triggerer, seen: Verdict, again: float
) -> None:
    assert triggerer.watch(silence, {0: seen}, 5) == [0]
    restarted = revive(silence)
    assert triggerer.watch(restarted, {0: seen}, 30) == [pytest.approx(again, abs=LOOK)]


def test_a_new_silence_is_told_at_once_also_by_a_triggerer_that_never_saw_the_end_of_the_last(
    silence: SilenceTrigger, triggerer: Triggerer
) -> None:
    assert triggerer.watch(silence, {0: SILENT, 2: WELL}, 5) == [0]
    restarted = revive(silence)
    killed = Wall.passed()
    assert triggerer.watch(restarted, {0: SILENT}, 5) == [killed]


# How often it looks


def test_it_looks_when_silence_can_first_begin(silence: SilenceTrigger, triggerer: Triggerer) -> None:
    due = START + timedelta(seconds=0.7)
    assert triggerer.watch(silence, {0: Verdict(Signal.QUIET, look_again=due), 0.7: SILENT}, 1) == [0.7]
    assert triggerer.looked[:2] == [0, 0.7]


def test_it_looks_after_a_lease_though_nothing_is_due_for_long(silence: SilenceTrigger, triggerer: Triggerer) -> None:
    later = Verdict(Signal.QUIET, look_again=START + timedelta(hours=1))
    triggerer.watch(silence, {0: later}, 3)
    assert triggerer.looked == [0, LOOK, 2 * LOOK]


def test_it_takes_a_breath_where_silence_could_have_begun_already(
    silence: SilenceTrigger, triggerer: Triggerer
) -> None:
    triggerer.watch(silence, {0: Verdict(Signal.STALLED, look_again=START - timedelta(seconds=9))}, 0.12)
    assert triggerer.looked == [0, SHORTEST_LOOK_SECONDS, 2 * SHORTEST_LOOK_SECONDS]


def test_a_silence_that_was_told_is_looked_at_in_peace(silence: SilenceTrigger, triggerer: Triggerer) -> None:
    triggerer.watch(silence, {0: Verdict(Signal.SILENT, look_again=START)}, 3)
    assert triggerer.looked == [0, LOOK, 2 * LOOK]


@pytest.mark.parametrize("error", [StateError("disk full"), RuntimeError("whatever else")])
def test_what_cannot_be_looked_at_now_is_looked_at_later(
    silence: SilenceTrigger, triggerer: Triggerer, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    assert triggerer.watch(silence, {0: error, 3: SILENT}, 5) == [3.6]
    assert caplog.messages == [
        f"{STREAM}: cannot be looked at, for 0 s now, so no silence is seen: {type(error).__name__}: {error}",
        f"{STREAM}: can be looked at again, after 4 s",
    ]


# What it looks through


def test_one_watch_keeps_what_it_saw_between_two_looks(spec: StreamSpec, target: Target, triggerer: Triggerer) -> None:
    triggerer.watch(SilenceTrigger.watching(spec, target, last_seen=text(START)), {0: WELL}, 10)
    assert triggerer.made == [(WatchPlan.of(spec, target), watching.stream_jobs(), START)]
    assert len(triggerer.looked) > 3


def test_a_silent_stream_is_seen_through_its_heartbeat(silence: SilenceTrigger, store: MemoryStore) -> None:
    remember(store, **dead())
    assert fired(revive(silence))["signal"] == "SILENT"


def test_a_streaming_job_that_is_gone_is_seen_at_its_launcher(
    spec: StreamSpec, target: Target, silence: SilenceTrigger, store: MemoryStore, launcher: FakeLauncher
) -> None:
    remember(store, **dead(next_due=ago(-60)))
    job = launcher.start(stream_job_request(spec, target))
    assert asyncio.run(silence.look()).missing == frozenset()
    launcher.end(job.name, JobState.FAILED)
    assert fired(revive(silence))["missing"] == ["STREAM_JOB"]


def test_a_launcher_that_hangs_delays_no_silence(
    silence: SilenceTrigger, store: MemoryStore, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def hang(*_: object) -> Any:
        over.wait(120)
        raise LaunchError("504")

    for question in ("find", "find_active"):
        monkeypatch.setattr(launcher, question, hang, raising=False)
    remember(store, **dead())
    streams = [revive(silence) for _ in range(2 * watching.LOOKERS._max_workers)]

    async def told() -> list[Any]:
        return await asyncio.gather(*(anext(aiter(each.run())) for each in streams))

    try:
        events = asyncio.run(asyncio.wait_for(told(), 30))
    finally:
        over.set()
    assert {event.payload["signal"] for event in events} == {"SILENT"}


def test_the_watch_is_written_down_and_made_again(spec: StreamSpec, target: Target) -> None:
    trigger = SilenceTrigger.watching(spec, target)
    path, arguments = trigger.serialize()
    assert path == "rejeu.airflow.triggers.SilenceTrigger"
    assert json.loads(arguments["arguments"])["plan"] == WatchPlan.of(spec, target).model_dump(mode="json")
    assert [*arguments] == ["arguments"]
    assert revive(trigger).serialize() == trigger.serialize()
