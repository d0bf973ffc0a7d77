"""What is known of all streams' jobs: one question for all, that nobody waits for, whatever becomes of the launcher."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from threading import Event

import pytest

from rejeu.errors import LaunchError
from rejeu.ports import Job, JobState
from rejeu.testing import FakeLauncher
from rejeu.testing.launchers import SmallJob
from rejeu.watchdog import jobs_seen
from rejeu.watchdog.jobs_seen import JobsSeen

SECONDS = 60
"""How long a test waits for what is to come at once, and for how long its jobs are asked for."""


class Slow(FakeLauncher):
    """Answers when it may, and says what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = Event()
        self.may_answer.set()
        self.is_asked = Event()
        self.has_answered = Event()
        self.questions: list[Collection[str]] = []
        self.fails = False

    def find_active(self, names: Collection[str]) -> dict[str, Job]:
        self.questions.append(names)
        answer = super().find_active(names)
        self.is_asked.set()
        assert self.may_answer.wait(SECONDS)
        if self.fails:
            raise LaunchError("503")
        return answer


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    for pause in ("JOB_LOOK_SECONDS", "FAILED_REST_SECONDS"):
        monkeypatch.setattr(jobs_seen, pause, 0.01)
    made = Slow()
    for name in ("one", "two"):
        made.start(SmallJob((), name))
    yield made
    made.may_answer.set()


def until(reached: Callable[[], bool], launcher: Slow) -> None:
    """Wait, a question after the other, until this is so."""
    for _ in range(1_000):
        if reached():
            return
        launcher.is_asked.clear()
        assert launcher.is_asked.wait(SECONDS)
    raise AssertionError("it never was")


def test_all_are_asked_for_in_one_question(launcher: Slow) -> None:
    seen = JobsSeen(launcher)
    launcher.may_answer.clear()
    assert [seen.is_gone(name, SECONDS) for name in ("one", "two", "never")] == [False, False, False]
    launcher.may_answer.set()
    until(lambda: seen.is_gone("never", SECONDS), launcher)
    assert {*launcher.questions[-1]} == {"one", "two", "never"}
    launcher.end("two", JobState.FAILED)
    until(lambda: seen.is_gone("two", SECONDS), launcher)
    assert not seen.is_gone("one", SECONDS)


def test_a_launcher_that_hangs_keeps_nobody_and_that_is_said_once(
    launcher: Slow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    launcher.may_answer.clear()
    seen = JobsSeen(launcher)
    seen.is_gone("one", SECONDS)
    assert launcher.is_asked.wait(SECONDS)
    monkeypatch.setattr(jobs_seen, "LATE_SECONDS", -1.0)
    with caplog.at_level(logging.WARNING):
        assert not any(seen.is_gone(f"job-{number}", SECONDS) for number in range(200))
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("the launcher has not said for 0 s which of 2 streaming jobs run: ")


def test_a_launcher_that_fails_changes_nothing_and_is_asked_again(
    launcher: Slow, caplog: pytest.LogCaptureFixture
) -> None:
    seen = JobsSeen(launcher)
    until(lambda: seen.is_gone("never", SECONDS), launcher)
    launcher.fails = True
    with caplog.at_level(logging.WARNING):
        until(lambda: "1 streaming jobs cannot be looked for: 503" in caplog.text, launcher)
    assert seen.is_gone("never", SECONDS)
    launcher.fails = False
    launcher.start(SmallJob((), "never"))
    until(lambda: not seen.is_gone("never", SECONDS), launcher)


def test_what_was_asked_before_a_stream_was_wanted_again_says_nothing_of_it(launcher: Slow) -> None:
    seen = JobsSeen(launcher)
    launcher.may_answer.clear()
    seen.is_gone("never", SECONDS)
    assert launcher.is_asked.wait(SECONDS)
    seen.forget("never")
    launcher.start(SmallJob((), "never"))
    seen.is_gone("never", SECONDS)
    launcher.may_answer.set()
    for _ in range(3):
        assert not seen.is_gone("never", SECONDS)
        launcher.is_asked.clear()
        assert launcher.is_asked.wait(SECONDS)


def test_where_nobody_wants_to_know_nobody_is_asked(launcher: Slow) -> None:
    seen = JobsSeen(launcher)
    seen.is_gone("one", -1.0)
    asker = seen._asker
    if asker is not None:
        asker.join(SECONDS)
    assert (seen._asker, launcher.questions) == (None, [])
    until(lambda: seen.is_gone("never", SECONDS), launcher)
