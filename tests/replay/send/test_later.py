"""Doing things later: each when its time has come, in one thread, and none once it is closed."""

import threading
from collections.abc import Iterator

import pytest

from rejeu.replay.send import timer as later_module
from rejeu.replay.send.timer import Timer
from tests.fakes.monotonic import FakeTime

SECONDS = 20.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    return FakeTime(monkeypatch, later_module)


@pytest.fixture
def later(time: FakeTime) -> Iterator[Timer]:
    made = Timer()
    yield made
    made.close()


class Done:
    """What was done, in its order, and by which threads."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.threads: set[int] = set()
        self._changed = threading.Condition()

    def __call__(self, name: str) -> None:
        with self._changed:
            self.names.append(name)
            self.threads.add(threading.get_ident())
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.names) >= count, SECONDS), self.names


@pytest.fixture
def done() -> Done:
    return Done()


def test_what_waits_is_done_in_the_order_in_which_it_falls_due(time: FakeTime, later: Timer, done: Done) -> None:
    for seconds, name in ((5, "fifth"), (3, "third"), (4, "fourth")):
        later.call(seconds, lambda name=name: done(name))  # type: ignore[misc]
    time.seconds += 10
    later.call(0, lambda: done("last"))
    done.wait_for(4)
    assert done.names == ["third", "fourth", "fifth", "last"]


def test_what_falls_due_together_is_done_in_the_order_of_asking(time: FakeTime, later: Timer, done: Done) -> None:
    for number in range(100):
        later.call(5, lambda number=number: done(str(number)))  # type: ignore[misc]
    time.seconds += 5
    later.call(0, lambda: done("last"))
    done.wait_for(101)
    assert done.names == [*map(str, range(100)), "last"]


def test_nothing_is_done_before_its_time(time: FakeTime, later: Timer, done: Done) -> None:
    later.call(5, lambda: done("later"))
    time.seconds += 4.999
    later.call(0, lambda: done("now"))
    done.wait_for(1)
    later.call(0, lambda: done("again"))
    done.wait_for(2)
    assert done.names == ["now", "again"]


def test_a_shorter_wait_that_is_asked_for_later_is_not_held_up(later: Timer, done: Done) -> None:
    later.call(3600, lambda: done("in an hour"))
    later.call(0, lambda: done("now"))
    done.wait_for(1)
    assert done.names == ["now"]


def test_real_time_goes_by(done: Done) -> None:
    later = Timer()
    later.call(0.01, lambda: done("later"))
    done.wait_for(1)
    later.close()


def test_what_is_done_may_ask_for_more(later: Timer, done: Done) -> None:
    later.call(0, lambda: later.call(0, lambda: done("more")))
    done.wait_for(1)


def test_one_thread_does_all_of_it(later: Timer, done: Done) -> None:
    for _ in range(1_000):
        later.call(0, lambda: done("it"))
    done.wait_for(1_000)
    assert len(done.threads) == 1
    assert done.threads != {threading.get_ident()}


def test_nothing_is_done_once_it_is_closed(time: FakeTime, done: Done) -> None:
    later, running, may_end = Timer(), threading.Event(), threading.Event()

    def block() -> None:
        running.set()
        assert may_end.wait(SECONDS)

    later.call(0, block)
    assert running.wait(SECONDS)
    later.call(0, lambda: done("waited"))
    later.close()
    later.call(0, lambda: done("asked afterwards"))
    may_end.set()
    assert later._thread is not None
    later._thread.join(SECONDS)
    assert not later._thread.is_alive()
    assert done.names == []


def test_what_was_never_asked_for_anything_has_no_thread_to_end(done: Done) -> None:
    later = Timer()
    later.close()
    later.call(0, lambda: done("asked afterwards"))
    assert later._thread is None


def test_one_that_fails_is_told_and_holds_up_no_other(
    later: Timer, done: Done, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("no channel")

    later.call(0, fail)
    later.call(0, lambda: done("next"))
    done.wait_for(1)
    assert "no channel" in caplog.text
